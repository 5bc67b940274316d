"""`@tool`, `@resource`, `@prompt`: how the team declares what a function is and what it may do.

A declaration is an attribute of the function, which can still be called and tested like any other. Omitted arguments
default to the most cautious assumption: a tool is taken to be destructive, and asks before it runs.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from ..auth.principal import SCOPE_CHARACTER

Confirm = bool | Literal["if-possible"]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_ATTRIBUTE = "__mcp_policy__"
_SCOPE = re.compile(f"{SCOPE_CHARACTER}+")


class _Policy:
    __slots__ = ()

    def __call__(self, function: _Function) -> _Function:
        """Attach this policy to a function; a `TypeError` says why it cannot be called with named arguments."""
        name = getattr(function, "__name__", repr(function))
        given = inspect.unwrap(function)
        if inspect.isgeneratorfunction(given) or inspect.isasyncgenfunction(given):
            raise TypeError(
                f"{name} yields its answer: return it, as a list if need be; ctx.report_progress tells of progress"
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
                raise TypeError(f"{name}: {parameter} cannot be sent by name: declare each parameter, without * and /")
        setattr(function, _ATTRIBUTE, self)
        return function


@dataclass(frozen=True, slots=True)
class ToolPolicy(_Policy):
    """The arguments of `@tool`. The MCP annotations and the limits of its calls follow from them."""

    title: str | None
    scopes: frozenset[str]
    timeout: float
    calls_per_minute: int | None
    max_concurrency: int
    read_only: bool
    destructive: bool
    idempotent: bool
    open_world: bool
    confirm: Confirm
    untrusted: bool
    redact: bool


@dataclass(frozen=True, slots=True)
class ResourcePolicy(_Policy):
    """The arguments of `@resource`."""

    uri: str
    title: str | None
    mime_type: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class PromptPolicy(_Policy):
    """The arguments of `@prompt`."""

    title: str | None
    scopes: frozenset[str]


_WRITE: dict[type[_Policy], tuple[str, str]] = {
    ToolPolicy: ("TOOLS", "@tool(...)"),
    ResourcePolicy: ("RESOURCES", '@resource("scheme://...")'),
    PromptPolicy: ("PROMPTS", "@prompt()"),
}
_Kind = TypeVar("_Kind", bound=_Policy)


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
    confirm: Confirm | None = None,
    untrusted: bool | None = None,
    redact: bool = True,
) -> Callable[[_Function], _Function]:
    """Declare a function as a tool.

    Args:
        title: a name for users.
        scopes: what a caller must hold, all of them; none means every authenticated caller.
        timeout: seconds after which a call is ended.
        calls_per_minute: of one caller, sustained and as a burst; None means only the server's own limit.
        max_concurrency: calls that may run at the same time; further ones get the error «busy».
        read_only: the tool changes nothing.
        destructive: the tool may delete or overwrite. Default: unless it is read-only.
        idempotent: calling it again with the same arguments changes nothing more.
        open_world: the tool reaches systems outside of this server.
        confirm: ask the user before every call. Default: if the tool is destructive. "if-possible": run it without
            asking where the client cannot ask; False: never ask. For a destructive tool both leave the question to the
            client, and `check` warns of them.
        untrusted: what it returns was written outside of this server, and is marked as data. Default: if it is
            open_world.
        redact: known forms of credentials are taken out of what it returns.

    Raises:
        ValueError: if two of these contradict each other, or a scope cannot be sent in a header.
    """
    destroys = (not read_only) if destructive is None else destructive
    asks = destroys if confirm is None else confirm
    if read_only and destroys:
        raise ValueError("a tool cannot be read_only and destructive: keep the one that is true")
    if asks not in {True, False, "if-possible"}:
        raise ValueError('confirm is True, False or "if-possible"')
    if destructive is None and destroys and not asks:
        raise ValueError(
            "confirm=False: say destructive=False, or destructive=True if the client's own approval is enough"
        )
    if not 0 < timeout < math.inf or max_concurrency < 1 or (calls_per_minute is not None and calls_per_minute < 1):
        raise ValueError("timeout, max_concurrency and calls_per_minute must be positive")
    return ToolPolicy(
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
        untrusted=open_world if untrusted is None else untrusted,
        redact=redact,
    )


def resource(
    uri: str, *, title: str | None = None, mime_type: str = "text/plain", scopes: Iterable[str] = ()
) -> Callable[[_Function], _Function]:
    """Declare a function as the resource at `uri`.

    Args:
        uri: a URI, or an RFC 6570 template whose variables are the function's parameters.
        title: a name for users.
        mime_type: of what the function returns.
        scopes: what a caller must hold, all of them.
    """
    return ResourcePolicy(uri, title, mime_type, _scopes(scopes))


def prompt(*, title: str | None = None, scopes: Iterable[str] = ()) -> Callable[[_Function], _Function]:
    """Declare a function as a prompt. See `tool` for the arguments."""
    return PromptPolicy(title, _scopes(scopes))


def policy_of(function: Callable[..., Any], kind: type[_Kind]) -> _Kind:
    """Return what a function was declared as; if it was not, a `TypeError` says what to write."""
    policy = getattr(function, _ATTRIBUTE, None)
    if not isinstance(policy, kind):
        listed, write = _WRITE[kind]
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"{name} is listed in {listed} but not declared: write {write} above it")
    return policy


def _scopes(scopes: Iterable[str]) -> frozenset[str]:
    if isinstance(scopes, str):
        raise TypeError(f'scopes takes a tuple: write scopes=("{scopes}",)')
    named = frozenset(scopes)
    if wrong := sorted(repr(scope) for scope in named if not (isinstance(scope, str) and _SCOPE.fullmatch(scope))):
        raise ValueError(
            f"{', '.join(wrong)} cannot be a scope: write printable ASCII without spaces, quotes and backslashes"
        )
    return named
