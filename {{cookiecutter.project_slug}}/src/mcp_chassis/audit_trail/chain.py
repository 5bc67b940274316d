"""The chain of the audit trail: every line is numbered, and sealed together with the line before it.

Without the key, a line cannot be changed, removed, inserted or moved without breaking the chain. The chain alone does
not show that its end was cut off: for that, heads are logged elsewhere and given to `verify`.
"""

import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..events.untrusted import redact

_LINE = re.compile(rb'(\{.*"event\.sequence":([1-9][0-9]{0,17})),"event\.hash":"([0-9a-f]{64})"\}\n')
_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")
_MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the number of its last line and that line's seal."""

    sequence: int = 0
    seal: str = "0" * 64

    def __str__(self) -> str:
        return f"{self.sequence}:{self.seal}"


@dataclass
class Report:
    """The result of a verification."""

    lines: int = 0
    head: Head | None = None
    problems: list[str] = field(default_factory=list)


def parse_head(text: str) -> Head:
    """Return the head that was logged as `text`.

    Raises:
        ValueError: if it is not one.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError("a head is a number, a colon and 64 hexadecimal digits")
    return Head(int(match[1]), match[2])


def derived_key(secret: str, purpose: str) -> bytes:
    """Return a separate key for each purpose, so that what is published under one reveals nothing of another."""
    return hmac.digest(secret.encode(), purpose.encode(), "sha256")


def sealed(key: bytes, before: Head, fields: Mapping[str, Any]) -> tuple[bytes, Head]:
    """Return the line that follows `before`, and its head. JSON in ASCII: no value can end a line or forge one."""
    sequence = before.sequence + 1
    body = redact(json.dumps({**fields, "event.sequence": sequence}, separators=(",", ":"))[:-1]).encode()
    seal = _seal(key, before, body)
    return body + f',"event.hash":"{seal}"}}\n'.encode(), Head(sequence, seal)


def head_of(line: bytes) -> Head | None:
    """Return the head that a line claims, or None if it is no line of a trail."""
    match = _LINE.fullmatch(line)
    return None if match is None else Head(int(match[2]), match[3].decode())


def verify(key: bytes, lines: Iterable[bytes], known: Sequence[Head] = ()) -> Report:
    """Check a chain.

    Args:
        key: what it was sealed with.
        lines: oldest first, each with its line feed.
        known: heads that were logged elsewhere. The chain must hold them, and may begin after one of them.
    """
    report = Report()
    expected = {0: Head().seal} | {head.sequence: head.seal for head in known}
    before: Head | None = None
    for number, line in enumerate(lines, 1):
        report.lines = number
        match = _LINE.fullmatch(line)
        if match is None:
            _note(report, f"line {number} is not whole: it was edited, or its writing was cut off.")
            continue
        now = Head(int(match[2]), match[3].decode())
        if before is None and now.sequence - 1 in expected:
            before = Head(now.sequence - 1, expected[now.sequence - 1])
        _note(report, _fault(key, number, match[1], before, now))
        if expected.get(now.sequence, now.seal) != now.seal:
            _note(report, f"line {number} is not the one whose head was logged as {now.sequence}.")
        before = now
    report.head = before
    for head in known:
        if before is None or head.sequence > before.sequence:
            _note(report, f"the end is missing: a head was logged as {head.sequence}.")
    return report


def _fault(key: bytes, number: int, body: bytes, before: Head | None, now: Head) -> str | None:
    if before is None:
        return f"line {number} is number {now.sequence}: the beginning is missing. Name older files before this one."
    gap = now.sequence - before.sequence - 1
    if gap > 0:
        return f"before line {number}, {gap} lines are missing: {before.sequence + 1} to {now.sequence - 1}."
    if gap < 0:
        return f"line {number} is number {now.sequence} and comes after {before.sequence}: out of order, or a copy."
    if not hmac.compare_digest(_seal(key, before, body), now.seal):
        return f"line {number} was edited or forged, or the key is another one."
    return None


def _note(report: Report, problem: str | None) -> None:
    if problem is not None and len(report.problems) < _MAX_PROBLEMS:
        report.problems.append(problem)


def _seal(key: bytes, before: Head, body: bytes) -> str:
    return hmac.digest(key, before.seal.encode() + body, "sha256").hex()
