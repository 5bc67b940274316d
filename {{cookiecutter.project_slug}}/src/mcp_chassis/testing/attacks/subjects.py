"""Everything that a server offers and that can be attacked."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

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


@dataclass(frozen=True)
class Fixture:
    """What the team's tools need to be attacked in earnest: three names in a module, each of which may be left out.

    Args:
        module: its name.
        prepare: called with the attacked server's directory before every start; it makes the state to start from.
        samples: `SAMPLES`, for each tool a list of valid arguments.
        unproved: `UNPROVED`, for each tool that cannot succeed here (it needs the internet), the reason.
    """

    module: str = ""
    prepare: Callable[[Path], None] = lambda _: None
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    unproved: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, module: str) -> Self:
        """Return the fixture in a module; without a name that of the project, if it has one."""
        if not module and not Path("tests/attacks/fixture.py").is_file():
            return cls()
        module = module or "tests.attacks.fixture"
        sys.path.append(str(Path.cwd()))
        names = vars(import_module(module))
        given = {"prepare": "prepare", "samples": "SAMPLES", "unproved": "UNPROVED"}
        return cls(module, **{name: names[theirs] for name, theirs in given.items() if theirs in names})


def subjects(service: Service) -> list[Subject]:
    """Return every tool, resource and prompt."""
    return asyncio.run(_listed(unchecked_server(service)))
