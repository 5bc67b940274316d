"""Security events: what an operator is told about, in six kinds.

An event goes to a bounded ring (served at `/security/events`) and to one log line. Recording never waits and never
raises: a defence must not fail because nobody could be told.

A flood does not wash away what else happened: of one kind, severity, identifier and cause the first few in ten
seconds are noted one by one, the others as one event with a count.
"""

import asyncio
import contextvars
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

import structlog

from ..http.current_request import current_request
from ..telemetry.metrics import count_event
from .logging import BLOT, blot_tokens

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
_PERIOD = 10.0  # seconds
_ONE_BY_ONE = 10  # events of one group in a period
_MOST_GROUPS = 10_000
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


@dataclass(slots=True)
class _Group:
    """The events of one kind, severity, identifier and cause in one period."""

    until: float
    noted: int = 0
    number: int = 0
    rest: SecurityEvent | None = None
    """The newest of those that were not noted one by one; its details say how many they are."""


class EventLog:
    """The last events, newest last.

    Args:
        keep: how many events are remembered; older ones live on in the log only.
        secrets: values that must not be remembered, wherever a client put them.
    """

    def __init__(self, keep: int = 1000, *, secrets: Iterable[str] = ()) -> None:
        self._keep = keep
        self._ring: OrderedDict[int, SecurityEvent] = OrderedDict()
        self._secrets = tuple(secrets)
        self._groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()  # the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self.total = 0
        self.forward: Callable[[SecurityEvent], None] | None = None
        """Also told of what is logged, floods as one event with a count: the replicas' common record. Must not wait."""

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
        self.total += 1
        identifier, severity = (identifier or "local")[:_LONGEST_DETAIL], severity or _SEVERITY[event]
        count_event(event, severity)
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        facts = [str(details[name])[:_LONGEST_DETAIL] if name in details else "" for name in _TELLING]
        group = self._group((event, severity, _neighbourhood(identifier), *facts))
        group.noted += 1
        bounded = {name: self._bounded(value) for name, value in details.items()}
        entry = SecurityEvent(timestamp, event, identifier, bounded, severity)
        if group.rest is not None:
            self._ring.pop(group.number, None)  # the newest stands for all
        self._ring[self.total] = entry
        if len(self._ring) > self._keep:
            self._ring.popitem(last=False)
        if group.noted <= _ONE_BY_ONE:
            self._tell(entry)
        else:
            entry.details["count"] = group.noted - _ONE_BY_ONE
            group.rest, group.number = entry, self.total
            self._log_later()

    def flush(self, *, everything: bool = True) -> None:
        """Write the lines of the events that stand for many: of periods that are over, or all."""
        now = time.monotonic()
        while self._groups and (everything or next(iter(self._groups.values())).until <= now):
            self._end(*self._groups.popitem(last=False))

    def _group(self, key: tuple[str, ...]) -> _Group:
        self.flush(everything=False)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= _MOST_GROUPS:
                self._end(*self._groups.popitem(last=False))
            group = self._groups[key] = _Group(time.monotonic() + _PERIOD)
        return group

    def _end(self, _: object, group: _Group) -> None:
        if group.rest is not None:
            contextvars.Context().run(self._tell, group.rest)  # not as a line of the request that happens to be served

    def _log_later(self) -> None:
        """See to it that the count is written even if nothing else happens."""
        if self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(_PERIOD, self._on_time)
            except RuntimeError:  # no loop: the next event, or `flush`, writes it
                return

    def _on_time(self) -> None:
        self._timer = None
        self.flush(everything=False)
        if any(group.rest is not None for group in self._groups.values()):
            self._log_later()

    def _tell(self, entry: SecurityEvent) -> None:
        if self.forward is not None:
            self.forward(entry)
        log.warning("security_event", kind=entry.event, identifier=entry.identifier, severity=entry.severity,
                    details=entry.details)  # fmt: skip

    def recent(self, limit: int = 100, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the newest events first, as JSON-ready dictionaries."""
        chosen = (event for event in reversed(self._ring.values()) if kind is None or event.event == kind)
        return [asdict(event) for _, event in zip(range(limit), chosen, strict=False)]

    def _bounded(self, value: object) -> object:
        if isinstance(value, bool | int | float) or value is None:
            return value
        if isinstance(value, list | tuple):
            return [self._bounded(item) for item in value[:20]]
        text = str(value)
        for secret in self._secrets:  # before the cut, which could leave half of it
            text = text.replace(secret, BLOT)
        text = blot_tokens(text)
        if text.isascii():
            return text[:_LONGEST_DETAIL]
        # Without halves of surrogate pairs: one of them would make every answer of /security/events fail.
        return text[:_LONGEST_DETAIL].encode(errors="replace").decode()


def _neighbourhood(identifier: str) -> str:
    """Return what is one for a flood: IPv6 addresses of one /64 are."""
    if identifier.count(":") > 1:
        try:
            return str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(identifier)) >> 64 << 64))
        except ValueError:
            pass  # a principal's id
    return identifier
