"""What the attacks need to get through to the tools: valid arguments where made-up ones do not fit the orders."""

SAMPLES = {
    "ship_order": [{"number": number, "carrier": "post"} for number in (1, 5, 7)],
    "cancel_order": [{"number": number} for number in (3, 6, 8)],
    "orders://{number}": [{"number": "2"}],
}
"""For each tool and resource a list of valid arguments. Orders from 5 on are those that the attacks place."""

UNPROVED = {"stock_of": "there is no stock service"}
"""Tools that cannot succeed here, and why. Only these may fail in every call."""
