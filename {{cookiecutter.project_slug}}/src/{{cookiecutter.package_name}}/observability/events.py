"""Security events: what an operator is told about, in six kinds.

An event goes to a bounded ring (served at `/security/events`) and to one log line. Recording never waits and never
raises: a defence must not fail because nobody could be told.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

import structlog

from .logging import BLOT, TOKENS
from .request_context import current_request

Kind = Literal[
    "authentication_failed",
    "rate_limit_exceeded",
    "input_validation_failed",
    "untrusted_origin_blocked",
    "tool_execution_failed",
    "http_error",
]
Severity = Literal["low", "medium", "high"]

_SEVERITY: Mapping[str, Severity] = MappingProxyType(
    {
        "authentication_failed": "high",
        "rate_limit_exceeded": "medium",
        "input_validation_failed": "medium",
        "untrusted_origin_blocked": "medium",
        "tool_execution_failed": "high",
        "http_error": "medium",
    }
)
KINDS = frozenset(_SEVERITY)
_LONGEST_DETAIL = 200

log = structlog.get_logger("security")


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One thing that happened. `details` hold names, sizes and reasons; never a credential or an argument's value."""

    timestamp: str
    event: Kind
    identifier: str
    """Who caused it: a principal's id or, before there is one, an address."""
    details: Mapping[str, Any]
    severity: Severity


class EventLog:
    """The last events, newest last.

    Args:
        keep: how many events are remembered; older ones live on in the log only.
        secrets: values that must not be remembered, wherever a client put them.
    """

    def __init__(self, keep: int = 1000, *, secrets: Iterable[str] = ()) -> None:
        self._ring: deque[SecurityEvent] = deque(maxlen=keep)
        self._secrets = tuple(secrets)
        self.total = 0

    def record(
        self, event: Kind, identifier: str | None = None, *, severity: Severity | None = None, **details: object
    ) -> None:
        """Note one event.

        Args:
            event: the kind.
            identifier: a principal's id; without one, the address of the request being served.
            severity: other than the kind's own.
            details: short facts; text is cut at 200 characters, so that an attacker cannot fill the memory.
        """
        request = current_request.get()
        if request is not None:
            request.event_recorded = True
            details["request_id"] = request.request_id
            details.setdefault("client", request.client)
            identifier = identifier or request.client
        entry = SecurityEvent(
            timestamp=datetime.now(UTC).isoformat(timespec="milliseconds"),
            event=event,
            identifier=(identifier or "local")[:_LONGEST_DETAIL],
            details={name: self._bounded(value) for name, value in details.items()},
            severity=severity or _SEVERITY[event],
        )
        self._ring.append(entry)
        self.total += 1
        log.warning("security_event", kind=entry.event, identifier=entry.identifier, severity=entry.severity,
                    details=entry.details)  # fmt: skip

    def recent(self, limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the newest events first, as JSON-ready dictionaries."""
        chosen = (event for event in reversed(self._ring) if kind is None or event.event == kind)
        return [asdict(event) for _, event in zip(range(limit), chosen, strict=False)]

    def _bounded(self, value: object) -> object:
        if isinstance(value, bool | int | float) or value is None:
            return value
        if isinstance(value, list | tuple):
            return [self._bounded(item) for item in value[:20]]
        text = str(value)
        for secret in self._secrets:  # before the cut, which could leave half of it
            text = text.replace(secret, BLOT)
        text = TOKENS.sub(BLOT, text)
        # Without halves of surrogate pairs: one of them would make every answer of /security/events fail.
        return text[:_LONGEST_DETAIL].encode(errors="replace").decode()
