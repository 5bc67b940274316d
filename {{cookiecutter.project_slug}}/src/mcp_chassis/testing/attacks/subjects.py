"""Everything that a server offers and that can be attacked."""

import asyncio
from collections.abc import Iterable
from typing import Any

from mcp.shared.uri_template import UriTemplate

from ...auth.principal import STDIO, current_principal
from ...mcp.guarded_server import GuardedServer
from ...service import Service, unchecked_server
from .findings import MAX_CONCURRENCY, Subject


async def _listed(server: GuardedServer) -> list[Subject]:
    current_principal.set(STDIO)  # has every scope
    found = [
        Subject("tool", name, one.tool.parameters, min(MAX_CONCURRENCY, one.policy.max_concurrency), one.policy.confirm)
        for name, one in server.guarded_tools.items()
    ]
    uris = [str(one.uri) for one in await server.list_resources()]
    uris += [one.uri_template for one in await server.list_resource_templates()]
    found += [Subject("resource", uri, _strings(UriTemplate.parse(uri).variable_names)) for uri in uris]
    prompts = await server.list_prompts()
    return found + [Subject("prompt", one.name, _strings(a.name for a in one.arguments or ())) for one in prompts]


def _strings(names: Iterable[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def subjects(service: Service) -> list[Subject]:
    """Return every tool, resource and prompt."""
    return asyncio.run(_listed(unchecked_server(service)))
