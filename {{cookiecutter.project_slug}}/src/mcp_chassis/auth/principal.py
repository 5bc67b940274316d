"""The authenticated caller. A verifier makes the principal; it cannot be changed and never holds the credential."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

ALL_SCOPES = "*"
SCOPE_CHARACTER = r"[\x21\x23-\x5b\x5d-\x7e]"
"""Of a scope token (RFC 6749, section 3.3)."""


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    id: str
    """Stable and fit for logs: `key:default`, `oauth:<subject>`, `stdio`."""
    kind: Literal["key", "oauth", "stdio", "anonymous"]
    scopes: frozenset[str] = frozenset()

    def may(self, scope: str) -> bool:
        """Whether this principal holds `scope`."""
        return scope in self.scopes or ALL_SCOPES in self.scopes


STDIO = Principal("stdio", "stdio", frozenset({ALL_SCOPES}))
"""The parent process. The operating system has already authenticated it."""

ANONYMOUS = Principal("anonymous", "anonymous", frozenset({ALL_SCOPES}))
"""Every caller, when authentication is switched off."""

current_principal: ContextVar[Principal | None] = ContextVar("current_principal", default=None)

credential_is_valid: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("credential_is_valid", default=None)
"""Asks the verifier again whether the credential still gives the same principal. None: there is no credential."""


def authenticated() -> Principal | None:
    """Return the authenticated caller; None if there is none, or an anonymous one."""
    principal = current_principal.get()
    return None if principal is None or principal.kind == "anonymous" else principal


def get_principal() -> Principal:
    """Return the caller of the running tool, resource or prompt.

    Raises:
        LookupError: outside of a call.
    """
    principal = current_principal.get()
    if principal is None:
        raise LookupError("there is no caller: get_principal() works while a tool, resource or prompt runs")
    return principal
