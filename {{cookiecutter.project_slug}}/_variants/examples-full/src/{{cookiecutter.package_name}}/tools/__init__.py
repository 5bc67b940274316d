"""Your tools. A tool is a plain typed function in a file of this directory, listed here in one line."""

from .hello import hello_world
from .history import git_log
from .notes import list_notes, read_note, write_note
from .orders import cancel_order, find_orders, place_order, ship_order, stock_of
from .pages import fetch_page
from .sales import sales_chart
from .words import count_words

DESK = (find_orders, place_order, ship_order, cancel_order, stock_of, sales_chart)
TOOLS = (hello_world, list_notes, read_note, write_note, fetch_page, git_log, count_words, *DESK)
