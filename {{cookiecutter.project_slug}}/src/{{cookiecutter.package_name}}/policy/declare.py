"""How a function says that it is a resource: `@resource("notes://{name}")`. The function itself stays as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])
_ATTRIBUTE = "__resource__"


@dataclass(frozen=True, slots=True)
class ResourceDeclaration:
    """What `@resource` was told."""

    uri: str
    title: str | None
    mime_type: str


def resource(uri: str, *, title: str | None = None, mime_type: str = "text/plain") -> Callable[[_Function], _Function]:
    """Declare a function as the resource at `uri`.

    Args:
        uri: a URI, or an RFC 6570 template whose variables are the function's parameters.
        title: a name for people.
        mime_type: of what the function returns.
    """

    def declare(function: _Function) -> _Function:
        setattr(function, _ATTRIBUTE, ResourceDeclaration(uri, title, mime_type))
        return function

    return declare


def resource_declaration(function: Callable[..., Any]) -> ResourceDeclaration:
    """Return what `@resource` was told of `function`.

    Raises:
        TypeError: if it was never told, with what to write.
    """
    declaration = getattr(function, _ATTRIBUTE, None)
    if not isinstance(declaration, ResourceDeclaration):
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f'{name} is listed in RESOURCES without a URI: write @resource("scheme://...") above it')
    return declaration
