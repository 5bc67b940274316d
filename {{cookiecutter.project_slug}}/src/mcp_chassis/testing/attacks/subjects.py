"""Everything that a server offers and that can be attacked."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from mcp.shared.uri_template import UriTemplate

from ...auth.principal import STDIO, current_principal
from ...mcp.guarded_server import GuardedServer
from ...service import Service, unchecked_server


@dataclass(frozen=True)
class Subject:
    """One tool, prompt, resource or resource template."""

    kind: Literal["tool", "prompt", "resource"]
    name: str
    schema: dict[str, Any] = field(hash=False, repr=False)
    max_concurrency: int = 8
    confirm: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


async def _listed(server: GuardedServer) -> list[Subject]:
    current_principal.set(STDIO)  # has every scope
    tools = server.guarded_tools.items()
    found = [Subject("tool", n, t.tool.parameters, t.policy.max_concurrency, bool(t.policy.confirm)) for n, t in tools]
    uris = [str(one.uri) for one in await server.list_resources()]
    uris += [one.uri_template for one in await server.list_resource_templates()]
    found += [Subject("resource", uri, _strings(UriTemplate.parse(uri).variable_names)) for uri in uris]
    prompts = await server.list_prompts()
    return found + [Subject("prompt", one.name, _strings(a.name for a in one.arguments or ())) for one in prompts]


def _strings(names: Iterable[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


class Fixture:
    """What tools need to be attacked in earnest: `prepare`, `SAMPLES` and `UNPROVED` of a module, if it has them.

    Args:
        module: its name; without one that of the project, if there is one.
        project: the directory of the project, if that is not the working directory.
    """

    def __init__(self, module: str = "", *, project: Path | None = None) -> None:
        project = project or Path.cwd()
        if not module and (project / "tests" / "attacks" / "fixture.py").is_file():
            module = "tests.attacks.fixture"
        sys.path.append(str(project))
        names = vars(import_module(module)) if module else {}
        self.module = module
        self.prepare: Callable[[Path], None] = names.get("prepare", lambda _: None)
        self.samples: Mapping[str, Sequence[Mapping[str, Any]]] = names.get("SAMPLES", {})
        self.unproved: Mapping[str, str] = names.get("UNPROVED", {})


def subjects(service: Service) -> list[Subject]:
    """Return every tool, resource and prompt."""
    return asyncio.run(_listed(unchecked_server(service)))
