"""Reads the web for the model: whatever a URL says or redirects to, only public servers are ever asked."""

import os
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.sinks import SafeFetcher

# In a network without a way out, a proxy is the way (compose.egress.yaml): it decides which hosts there are.
_fetcher = SafeFetcher(max_bytes=200_000, proxy=os.environ.get("EGRESS_PROXY") or None)


@tool(title="Fetch a page", read_only=True, open_world=True, timeout=20, calls_per_minute=30, max_concurrency=5)
async def fetch_page(
    url: Annotated[str, Field(min_length=9, max_length=2048, description="The https URL of a public page")],
) -> str:
    """Fetch a public web page and return its text."""
    page = await _fetcher.get(url, headers={"accept": "text/*, application/json"})
    if page.status != 200:
        raise ToolError(f"The server answered with status {page.status}.")
    if not page.headers.get("content-type", "").startswith(("text/", "application/json")):
        raise ToolError("The page is not text.")
    return page.text()
