"""Your tools. A tool is a plain typed function in a file of this directory, listed here in one line."""

from .hello import hello_world

TOOLS = (hello_world,)
