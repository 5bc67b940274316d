"""Who imports whom in the chassis, read from its source: what an optional package brings stays in that package."""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import mcp_chassis
from mcp_chassis.rooms import OFFERS

ROOT = Path(mcp_chassis.__file__).parent
ROOMS = tuple(offer.package for offer in OFFERS)
TESTING = "testing"
DEPENDENCIES = {
    "auth.oauth": {"jwt"},
    "replicas": {"redis", "throttled"},
    "telemetry": {"prometheus_client"},
    "tracing": {"opentelemetry.sdk", "opentelemetry.exporter"},
}
"""Distributions that only an optional package may import: without it they are not installed."""


def module_of(path: Path) -> str:
    """Return the name of a module below the chassis; the chassis's own `__init__` is the empty name."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """Return the absolute names that a module imports anywhere, in functions and for types too."""
    path = MODULES[module]
    package = ["mcp_chassis", *path.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import name` may bring a module, or a name of the package.
            found |= {name, *(f"{name}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def own_imports(module: str) -> Iterator[str]:
    """Yield what a module imports of the chassis, relative to it."""
    for name in imports(module):
        if name.startswith("mcp_chassis."):
            yield name.removeprefix("mcp_chassis.")


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room_of(module: str) -> str | None:
    return next((room for room in ROOMS if is_below(module, room)), None)


def of_rooms(module: str) -> list[str]:
    """Return what a module imports of optional packages other than its own."""
    return sorted(name for name in own_imports(module) if (room := room_of(name)) and room != room_of(module))


def found_in(modules: Iterable[str], faults: Callable[[str], list[str]]) -> dict[str, list[str]]:
    return {module: wrong for module in modules if (wrong := faults(module))}


SERVING = [module for module in MODULES if not is_below(module, TESTING)]


def test_the_chassis_never_imports_the_package_of_the_team() -> None:
    """It must be importable beside a team's package of any name."""
    beside = {path.name for path in ROOT.parent.iterdir()} - {ROOT.name} | {"secure_mcp_server"}
    tops = {name.partition(".")[0] for module in MODULES for name in imports(module)}
    assert "pydantic" in tops
    assert not tops & beside


def test_no_module_but_those_of_a_room_imports_it() -> None:
    """`rooms.py` finds them by name, so that nothing fails where one is absent. Rooms do not import each other."""
    assert found_in(SERVING, of_rooms) == {}
    assert all((ROOT / room.replace(".", "/")).is_dir() for room in ROOMS)


def test_the_sinks_import_nothing_else_of_the_chassis() -> None:
    sinks = [module for module in MODULES if is_below(module, "sinks")]
    assert len(sinks) > 5
    assert found_in(sinks, lambda module: [name for name in own_imports(module) if not is_below(name, "sinks")]) == {}


def test_the_dependencies_of_a_room_are_imported_in_that_room_only() -> None:
    def borrowed(module: str) -> list[str]:
        others = [package for room, packages in DEPENDENCIES.items() if room != room_of(module) for package in packages]
        return [name for name in imports(module) if any(is_below(name, package) for package in others)]

    assert found_in(SERVING, borrowed) == {}


def test_only_the_command_attack_imports_the_attacks() -> None:
    """The wheel does not hold `testing`, so what serves must not need it."""
    found = found_in(SERVING, lambda module: [name for name in own_imports(module) if is_below(name, TESTING)])
    assert set(found) == {"cli.serve"}


def test_an_import_is_found_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    source = "def late():\n    from .auth.oauth import jwks\n    import throttled.store\n    from . import replicas\n"
    monkeypatch.setitem(MODULES, "planted", ROOT / "planted.py")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: source)
    assert set(map(room_of, of_rooms("planted"))) == {"auth.oauth", "replicas"}
    assert "throttled.store" in imports("planted")
