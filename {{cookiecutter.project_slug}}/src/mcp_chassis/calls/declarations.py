"""How the team says what a function is and what it may do: `@tool`, `@resource`, `@prompt`.

A declaration is a note on the function, which stays as it is: it can be called and tested like any other. Defaults are
the safe ones: a tool of which nothing is said is taken to destroy things, and asks before it does.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..auth.principal import SCOPE_CHARACTER

_Function = TypeVar("_Function", bound=Callable[..., Any])
_ATTRIBUTE = "__mcp_policy__"
_SCOPE = re.compile(f"{SCOPE_CHARACTER}+")


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What `@tool` was told. The MCP annotations and the guard's limits follow from it."""

    title: str | None
    scopes: frozenset[str]
    timeout: float
    calls_per_minute: int | None
    max_concurrency: int
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    confirm: bool


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """What `@resource` was told."""

    uri: str
    title: str | None
    mime_type: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class PromptPolicy:
    """What `@prompt` was told."""

    title: str | None
    scopes: frozenset[str]


def tool(
    *,
    title: str | None = None,
    scopes: Iterable[str] = (),
    timeout: float = 30.0,
    calls_per_minute: int | None = None,
    max_concurrency: int = 20,
    read_only: bool = False,
    destructive: bool | None = None,
    idempotent: bool = False,
    open_world: bool = True,
    confirm: bool | None = None,
) -> Callable[[_Function], _Function]:
    """Declare a function as a tool.

    Args:
        title: a name for people.
        scopes: what a caller must hold, all of them; none means every authenticated caller.
        timeout: seconds after which a call is ended.
        calls_per_minute: of one caller, sustained and at once; None means only the server's own limit.
        max_concurrency: calls that may run at the same time; a further one is answered «busy».
        read_only: the tool changes nothing.
        destructive: the tool may delete or overwrite. Default: unless it is read-only.
        idempotent: calling it again with the same arguments changes nothing more.
        open_world: the tool deals with things outside of this server.
        confirm: ask a person before every call. Default: if the tool is destructive.

    Raises:
        ValueError: if two of these contradict each other, or a scope cannot be sent.
    """
    destroys = (not read_only) if destructive is None else destructive
    asks = destroys if confirm is None else confirm
    if read_only and destroys:
        raise ValueError("a tool cannot be read_only and destructive: keep the one that is true")
    if destroys and not asks:
        raise ValueError("a destructive tool needs confirm=True; if it destroys nothing, say destructive=False")
    if not 0 < timeout < math.inf or max_concurrency < 1 or (calls_per_minute is not None and calls_per_minute < 1):
        raise ValueError("timeout, max_concurrency and calls_per_minute must be positive")
    return _declare(
        ToolPolicy(
            title=title,
            scopes=_scopes(scopes),
            timeout=float(timeout),  # 30 and 30.0 are one timeout, and have to have one digest in the lock file
            calls_per_minute=calls_per_minute,
            max_concurrency=max_concurrency,
            read_only=read_only,
            destructive=destroys,
            idempotent=idempotent or read_only,
            open_world=open_world,
            confirm=asks,
        )
    )


def resource(
    uri: str, *, title: str | None = None, mime_type: str = "text/plain", scopes: Iterable[str] = ()
) -> Callable[[_Function], _Function]:
    """Declare a function as the resource at `uri`.

    Args:
        uri: a URI, or an RFC 6570 template whose variables are the function's parameters.
        title: a name for people.
        mime_type: of what the function returns.
        scopes: what a caller must hold, all of them.
    """
    return _declare(ResourcePolicy(uri, title, mime_type, _scopes(scopes)))


def prompt(*, title: str | None = None, scopes: Iterable[str] = ()) -> Callable[[_Function], _Function]:
    """Declare a function as a prompt. See `tool` for the arguments."""
    return _declare(PromptPolicy(title, _scopes(scopes)))


_Policy = TypeVar("_Policy", ToolPolicy, ResourcePolicy, PromptPolicy)
_WRITE = {
    ToolPolicy: ("TOOLS", "@tool(...)"),
    ResourcePolicy: ("RESOURCES", '@resource("scheme://...")'),
    PromptPolicy: ("PROMPTS", "@prompt()"),
}


def policy_of(function: Callable[..., Any], kind: type[_Policy]) -> _Policy:
    """Return what a function was declared as.

    Raises:
        TypeError: if it was not, with what to write.
    """
    policy = getattr(function, _ATTRIBUTE, None)
    if not isinstance(policy, kind):
        listed, write = _WRITE[kind]
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"{name} is listed in {listed} but not declared: write {write} above it")
    return policy


def _declare(policy: ToolPolicy | ResourcePolicy | PromptPolicy) -> Callable[[_Function], _Function]:
    def declare(function: _Function) -> _Function:
        setattr(function, _ATTRIBUTE, policy)
        return function

    return declare


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    if isinstance(scopes, str):
        raise TypeError(f'scopes takes a tuple: write scopes=("{scopes}",)')
    named = frozenset(scopes)
    if wrong := sorted(repr(scope) for scope in named if not (isinstance(scope, str) and _SCOPE.fullmatch(scope))):
        raise ValueError(
            f"{', '.join(wrong)} cannot be a scope: write printable ASCII without spaces, quotes and backslashes"
        )
    return named
