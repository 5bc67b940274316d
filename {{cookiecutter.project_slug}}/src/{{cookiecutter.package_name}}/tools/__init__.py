"""Your tools. A tool is a plain typed function in a file of this directory, listed here in one line."""

from .hello import hello_world
from .history import git_log
from .notes import list_notes, read_note, write_note
from .pages import fetch_page
from .words import count_words

TOOLS = (hello_world, list_notes, read_note, write_note, fetch_page, git_log, count_words)
