"""Security events: what an operator is told about, in six kinds.

An event goes to a bounded ring (served at `/security/events`) and to one log line. Recording never waits and never
raises: a defence must not fail because nobody could be told.

What one caller does cannot wash away what else happened. Repeated events are sampled (`sampling.py`), and when the ring
is full, the least severe events go first, and of those the oldest of the caller that has most of them.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Literal, get_args

import structlog

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
_TELLING = ("reason", "header", "tool", "status")  # details that make another event of it; few values each
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
    """Who caused it: a principal's id or, before there is one, an address."""
    details: dict[str, Any]
    severity: Severity


class _Ring:
    """The events that are remembered, by severity and caller.

    Args:
        keep: how many. A quarter of them may always be of low severity and a quarter medium; half are for high ones.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._callers: dict[Severity, defaultdict[str, OrderedDict[int, SecurityEvent]]] = {
            severity: defaultdict(OrderedDict) for severity in get_args(Severity)
        }
        self._sizes = dict.fromkeys(self._callers, 0)

    def add(self, number: int, event: SecurityEvent) -> None:
        """Remember an event, and forget another one if there are too many."""
        self._callers[event.severity][client_key(event.identifier)][number] = event
        self._sizes[event.severity] += 1
        if sum(self._sizes.values()) > self._keep:
            sizes, share = self._sizes, self._keep // 4
            severity: Severity = "low" if sizes["low"] > share else "medium" if sizes["medium"] > share else "high"
            callers = self._callers[severity]
            most = max(callers, key=lambda caller: len(callers[caller]))
            self.remove(next(iter(callers[most])), callers[most][next(iter(callers[most]))])

    def remove(self, number: int, event: SecurityEvent) -> None:
        """Forget an event, if it is still remembered."""
        caller = client_key(event.identifier)
        mine = self._callers[event.severity][caller]
        if mine.pop(number, None) is not None:
            self._sizes[event.severity] -= 1
        if not mine:
            del self._callers[event.severity][caller]

    def newest_first(self) -> list[SecurityEvent]:
        """Return all of them."""
        every = (item for callers in self._callers.values() for mine in callers.values() for item in mine.items())
        return [event for _, event in sorted(every, key=itemgetter(0), reverse=True)]


class EventLog:
    """The last events.

    Args:
        keep: how many events are remembered; older ones live on in the log only.
        listeners: called with what is logged, floods as one event with a count. They must not wait.
    """

    def __init__(self, keep: int = 1000, *, listeners: Sequence[Callable[[SecurityEvent], None]] = ()) -> None:
        self._ring = _Ring(keep)
        self._sampler: Sampler[tuple[int, SecurityEvent]] = Sampler(self._write)
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
        request = current_request.get()
        if request is not None:
            request.event_recorded = True
            details["request_id"] = request.request_id
            details.setdefault("client", request.client)
            identifier = identifier or request.client
        self.total += 1
        identifier, severity = (identifier or "local")[:MAX_TEXT], severity or _SEVERITY[event]
        count_event(event, severity)
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        bounded = {name: _bounded(value) for name, value in details.items()}
        entry = SecurityEvent(timestamp, event, identifier, bounded, severity)
        facts = (str(bounded.get(name, "")) for name in _TELLING)
        merged, replaced = self._sampler.take(identifier, ((event, severity), *facts), (self.total, entry))
        if replaced is not None:
            self._ring.remove(*replaced)  # the newest stands for all
        if merged:
            entry.details["count"] = merged
        self._ring.add(self.total, entry)

    def flush(self) -> None:
        """Write the lines of the events that stand for many."""
        self._sampler.flush()

    def _write(self, item: tuple[int, SecurityEvent], _: int) -> None:
        entry = item[1]
        for listener in self._listeners:
            listener(entry)
        log.warning("security_event", kind=entry.event, identifier=entry.identifier, severity=entry.severity,
                    details=entry.details)  # fmt: skip

    def recent(self, limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the newest events first, as JSON-ready dictionaries."""
        chosen = (event for event in self._ring.newest_first() if kind is None or event.event == kind)
        return [asdict(event) for event in islice(chosen, limit)]


def _bounded(value: object) -> object:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value[:20]]
    return shown(str(value))
