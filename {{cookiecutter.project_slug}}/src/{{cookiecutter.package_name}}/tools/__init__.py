"""Your tools. A tool is a plain typed function in a file of this directory, listed here in one line."""

from .hello import hello_world
from .orders import cancel_order, find_orders, place_order, ship_order, stock_of
from .sales import sales_chart

TOOLS = (hello_world, find_orders, place_order, ship_order, cancel_order, stock_of, sales_chart)
