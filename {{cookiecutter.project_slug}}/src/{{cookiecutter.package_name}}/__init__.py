"""Your package: `server.py` lists what is served. The rest of the server is `mcp_chassis`."""

from mcp_chassis import version_of

__version__ = version_of(__name__)
