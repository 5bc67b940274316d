"""Your resources: what a client may read. Each says its URI and is listed in `RESOURCES`."""

from mcp_chassis import resource

from . import __version__


@resource("about://server", title="About this server")
def about() -> str:
    """Return what this server is and which version runs."""
    return f"A secured MCP server, version {__version__}."


RESOURCES = (about,)
