"""The chain of the audit trail. What tampering it shows is in tests/attacks/test_audit_trail.py."""

import json

import pytest

from mcp_chassis.audit_trail.chain import (
    Head,
    Report,
    derived_key,
    head_of,
    parse_head,
    sealed,
    verify,
)

KEY = derived_key("a secret", "audit chain")


def chain(length: int, before: Head | None = None) -> tuple[list[bytes], Head]:
    """Return that many lines, and their head."""
    lines, head = [], before or Head()
    for number in range(length):
        line, head = sealed(KEY, head, {"event.action": f"action {number}"})
        lines.append(line)
    return lines, head


def test_a_chain_is_whole() -> None:
    lines, head = chain(5)
    assert verify(KEY, lines) == Report(lines=5, head=head, problems=[])
    assert verify(KEY, []) == Report()


def test_a_line_is_json_with_its_number_and_its_seal() -> None:
    (first, second), head = chain(2)
    assert json.loads(first) == {
        "event.action": "action 0",
        "event.sequence": 1,
        "event.hash": json.loads(first)["event.hash"],
    }
    assert head_of(second) == head == Head(2, json.loads(second)["event.hash"])


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"event.sequence":1,"event.hash":"00"}\n', b"[1]\n"])
def test_what_is_no_line_has_no_head(line: bytes) -> None:
    assert head_of(line) is None


def test_each_purpose_has_a_key_of_its_own() -> None:
    assert len({derived_key(secret, purpose) for secret in "ab" for purpose in ("chain", "values")}) == 4


def test_a_chain_goes_on_in_another_file() -> None:
    old, middle = chain(3)
    new, head = chain(2, middle)
    assert verify(KEY, old + new) == Report(lines=5, head=head, problems=[])
    assert verify(KEY, new, [middle]).problems == []
    assert verify(KEY, new).problems == [
        "line 1 is number 4: the beginning is missing. Name older files before this one."
    ]


def test_a_head_reads_as_it_was_logged() -> None:
    _, head = chain(3)
    assert parse_head(str(head)) == head
    for text in ("", "3", "3:xyz", f"{head} ", f"0:{'0' * 64}", f"-1:{'0' * 64}"):
        with pytest.raises(ValueError, match="a head is"):
            parse_head(text)


def test_a_broken_file_does_not_become_an_endless_report() -> None:
    assert len(verify(KEY, [b"x\n"] * 10_000).problems) == 100
