"""Security events, for an operator.

An event goes to a bounded ring (served at `/security/events`) and to one log line. Recording never waits and never
raises: a defence must not fail because its event cannot be recorded.

One caller cannot displace the events of others. Repeated events are sampled (`sampling.py`), and when the ring
is full, the least severe events go first, and of those the oldest of the caller that has most of them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, get_args

import structlog

from ..auth.principal import current_principal
from ..counters import count_event
from ..http.current_request import current_request
from ..limits.client_address import client_key
from .sampling import Sampler
from .untrusted import MAX_TEXT, shown

Kind = Literal[
    "authentication_failed",
    "rate_limit_exceeded",
    "input_validation_failed",
    "untrusted_origin_blocked",
    "tool_execution_failed",
    "http_error",
    "key_expires",
]
Severity = Literal["low", "medium", "high"]

KINDS: frozenset[str] = frozenset(get_args(Kind))
_HIGH = frozenset({"authentication_failed", "tool_execution_failed"})  # the other kinds are of medium severity
KEEP = 1000
_DISTINGUISHING = ("reason", "header", "tool", "status")  # details that make it a different event; few values each
for _kind in KINDS:
    for _severity in get_args(Severity):
        count_event(_kind, _severity, 0)

log = structlog.get_logger("security")


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One thing that happened. `details` hold names, sizes and reasons; never a credential or an argument's value."""

    timestamp: str
    event: Kind
    identifier: str
    """What caused it: a principal's id or, before there is one, an address."""
    details: dict[str, Any]
    severity: Severity


class EventLog:
    """The last events.

    Args:
        keep: how many events are remembered; others are in the log only. A quarter of them may always be of low
            severity and a quarter medium; half are for high ones.
        listeners: called with what is logged, floods as one event with a count. They must not wait.
    """

    def __init__(self, keep: int = KEEP, *, listeners: Sequence[Callable[[SecurityEvent], None]] = ()) -> None:
        self._keep = keep
        self._events: dict[int, SecurityEvent] = {}  # by number, the oldest first
        self._sampler: Sampler[tuple[int, SecurityEvent]] = Sampler(self._write)
        self.flush = self._sampler.flush
        self.total = 0
        self._listeners = listeners

    def record(
        self, event: Kind, identifier: str | None = None, *, severity: Severity | None = None, **details: object
    ) -> None:
        """Note one event.

        Args:
            event: the kind.
            identifier: a principal's id; without one, the address of the request being served.
            severity: other than the kind's own.
            details: short facts, which pass `shown`; never the value of an argument.
        """
        request, principal = current_request.get(), current_principal.get()
        if principal is not None and principal.id == identifier:
            details |= principal.name_field
        own: dict[str, object] = {}  # the server's, which need no look
        if request is not None:
            request.event_recorded = True
            own = {"request_id": request.request_id, "client": request.client}
            identifier = identifier or request.client
        self.total += 1
        identifier, severity = (identifier or "local")[:MAX_TEXT], severity or ("high" if event in _HIGH else "medium")
        count_event(event, severity)
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        bounded = own | {name: _bounded(value) for name, value in details.items()}
        entry = SecurityEvent(timestamp, event, identifier, bounded, severity)
        facts = (str(bounded.get(name, "")) for name in _DISTINGUISHING)
        merged, replaced = self._sampler.take(identifier, ((event, severity), *facts), (self.total, entry))
        if replaced is not None:
            self._events.pop(replaced[0], None)  # the newest stands for all
        if merged:
            entry.details["count"] = merged
        self._events[self.total] = entry
        if len(self._events) > self._keep:
            del self._events[_least_missed(self._events, self._keep)]

    def restore(self, events: Iterable[SecurityEvent]) -> None:
        """Remember events of before the start, the oldest first."""
        for event in events:
            self.total += 1
            self._events[self.total] = event

    def _write(self, item: tuple[int, SecurityEvent], _: int) -> None:
        entry = item[1]
        for listener in self._listeners:
            listener(entry)
        facts = {"kind": entry.event, "identifier": entry.identifier, "severity": entry.severity}
        log.warning("security_event", **facts, details=entry.details)

    def recent(self, limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the newest events first, as JSON-ready dictionaries."""
        chosen = (event for event in reversed(self._events.values()) if kind is None or event.event == kind)
        return [asdict(event) for event in islice(chosen, limit)]


def _bounded(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value[:20]]
    return shown(str(value))


def severity_to_cut(sizes: Mapping[str, int], keep: int) -> str:
    """Return of which severity an event is to be forgotten, by how many there are of each."""
    share = keep // 4
    return next((severity for severity in ("low", "medium") if sizes.get(severity, 0) > share), "high")


def _least_missed(events: Mapping[int, SecurityEvent], keep: int) -> int:
    """Return the number of the event to forget: the oldest of the caller that has most of the severity to be cut."""
    severity = severity_to_cut(Counter(event.severity for event in events.values()), keep)
    callers = {number: client_key(event.identifier) for number, event in events.items() if event.severity == severity}
    [(most, _)] = Counter(callers.values()).most_common(1)
    return next(number for number, caller in callers.items() if caller == most)
