"""Your prompts: texts that a user picks. Plain typed functions, listed in `PROMPTS`."""

from mcp_chassis import prompt
from mcp_chassis.sinks import Name


@prompt(title="Apologise for a late order")
def apology(customer: Name) -> str:
    """Ask the model to apologise to a customer whose order is late."""
    return f"Apologise to {customer} for the late order, in two friendly sentences."


PROMPTS = (apology,)
