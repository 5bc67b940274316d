"""The authenticated caller. A verifier makes the principal; it cannot be changed and never holds the credential."""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

ALL_SCOPES = "*"
SCOPE_CHARACTER = r"[\x21\x23-\x5b\x5d-\x7e]"  # of a scope token (RFC 6749, section 3.3)

Claims = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller."""

    id: str
    """Stable and fit for logs: `key:default`, `oauth:<subject>`, `stdio`."""
    kind: Literal["key", "oauth", "stdio", "anonymous"]
    scopes: frozenset[str] = frozenset()
    claims: Claims = field(default_factory=dict, repr=False, hash=False)
    """What else is known of the caller, by names of the operator's choice. Never in a log: it may be personal data."""
    name: str = field(default="", compare=False)
    """The operator's own text for a key, for logs."""

    def __post_init__(self) -> None:
        copies = {name: value if isinstance(value, str) else tuple(value) for name, value in self.claims.items()}
        object.__setattr__(self, "claims", MappingProxyType(copies))

    def may(self, scope: str) -> bool:
        """Whether this principal holds `scope`."""
        return scope in self.scopes or ALL_SCOPES in self.scopes

    def claim_values(self, claim: str) -> tuple[str, ...]:
        """Return the values of a claim as a tuple, empty without it: some issuers send a list of one as plain text."""
        value = self.claims.get(claim, ())
        return (value,) if isinstance(value, str) else value

    @property
    def name_field(self) -> dict[str, Any]:
        """The name of a key as a field of log lines and events; empty for other callers."""
        return {"key_name": self.name} if self.name else {}


STDIO = Principal("stdio", "stdio", frozenset({ALL_SCOPES}))  # the parent process, known to the operating system
ANONYMOUS = Principal("anonymous", "anonymous", frozenset({ALL_SCOPES}))  # every caller, without authentication

current_principal: ContextVar[Principal | None] = ContextVar("current_principal", default=None)

credential_is_valid: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("credential_is_valid", default=None)
"""Asks the verifier again whether the credential still gives the same principal. None: there is no credential."""


Act = Callable[[str, tuple[str, ...]], Awaitable[str]]
act_for_caller: ContextVar[Act | None] = ContextVar("act_for_caller", default=None)
"""Returns a token that acts for the caller at an audience, with scopes. None: the credential cannot be exchanged."""


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
