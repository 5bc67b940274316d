"""The audit trail: cleaning it up afterwards, writing lines that never happened, and reading secrets out of it."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis import cli
from mcp_chassis.audit_trail.chain import (
    Head,
    derived_key,
    head_of,
    sealed,
)
from secure_mcp_server.server import SERVER

from ..support.running import ServerProcess, running_server, server_process, wait_until
from .test_log_forging import INJECTIONS
from .wire import ACCEPT, JSON, Header, key_of, post, send

AUDIT_KEY = "sT4vQ9xL2mZ7bN1kR6wY3hF8dJ5gC0aP"
CANARIES = {place: f"canary-{place}-{secrets.token_hex(12)}" for place in ("argument", "nested", "header", "query")}
WRONG_KEY = f"canary-key-{secrets.token_urlsafe(24)}"
Lines = list[bytes]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, list[dict[str, Any]]]]:
    """A server after calls and attacks, and the lines of its trail."""
    directory = tmp_path_factory.mktemp("trail")
    trail = directory / "audit.jsonl"
    settings = {"audit_file": str(trail), "audit_key": AUDIT_KEY, "log_level": "debug", "environment": "development"}
    settings |= {"max_failed_auth_per_minute": "1000", "max_failed_auth_overall": "1000"}
    with server_process(directory, **settings) as server:
        call(server, "hello_world", {"name": "World"}, request_id="a-good-call")
        send(server.running, "GET", "/livez")
        send_canaries(server)
        for text in INJECTIONS:
            inject(server, text)
        call(server, "hello_world", {"name": "World"}, request_id="the-last-call")
        wait_until(lambda: "the-last-call" in trail.read_text())
        yield server, [json.loads(line) for line in trail.read_text().split("\n") if line]


def call(server: ServerProcess, tool: str, arguments: dict[str, Any], *, request_id: str = "just-another") -> None:
    """Call a tool over HTTP."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    headers: list[Header] = [key_of(server.running), JSON, ACCEPT, ("X-Request-ID", request_id)]
    send(server.running, "POST", "/mcp", headers, json.dumps(message).encode())


def send_canaries(server: ServerProcess) -> None:
    """Send what must be in no log: as a value of an argument, as a key, as headers, in a query."""
    call(server, "hello_world", {"name": CANARIES["argument"]})
    call(server, "hello_world", {"name": {"inner": [CANARIES["nested"]]}, "more": CANARIES["nested"]})
    for scheme in ("Bearer ", "Basic ", ""):
        send(server.running, "GET", "/health", [("Authorization", scheme + WRONG_KEY)])
    for place in (server.running.key, AUDIT_KEY):  # the server's own secrets are redacted wherever they appear
        call(server, place, {place: place}, request_id=place)
        send(server.running, "GET", f"/{place}")
    # Not in Host and Origin: what those hold when they are refused is what an operator has to know.
    for name in ("Cookie", "User-Agent", "Referer", "X-API-Key", "X-Forwarded-For", "Mcp-Session-Id", "Mcp-Name"):
        send(server.running, "GET", "/nothing", [key_of(server.running), (name, CANARIES["header"])])
    send(server.running, "GET", f"/nothing?access_token={CANARIES['query']}")


def inject(server: ServerProcess, text: str) -> None:
    """Put a text wherever the trail repeats what a client says."""
    call(server, text, {text: text})
    call(server, "hello_world", {text: text})
    for method, params in (
        ("resources/read", {"uri": text}),
        ("prompts/get", {"name": text, "arguments": {text: "x"}}),
    ):
        message = {"jsonrpc": "2.0", "id": text, "method": method, "params": params}
        post(server.running, json.dumps(message).encode())
    send(server.running, "GET", "/" + text.encode("unicode_escape").decode().replace(" ", "%20"))


def test_no_input_forges_a_line_of_the_trail(attacked: tuple[ServerProcess, list[dict[str, Any]]]) -> None:
    """Every line is one of ours: numbered without a gap, with our name, and the chain is whole."""
    server, lines = attacked
    assert [line["event.sequence"] for line in lines] == list(range(1, len(lines) + 1))
    assert len(lines) > 4 * len(INJECTIONS)
    assert {line["process.pid"] for line in lines} == {server.process.pid}
    text = (server.directory / "audit.jsonl").read_text()
    assert [character for character in text if not (character.isascii() and character.isprintable())] == (
        ["\n"] * len(lines)
    )
    assert verified(server.directory / "audit.jsonl") == 0


def test_no_secret_is_in_the_trail_or_in_the_log(attacked: tuple[ServerProcess, list[dict[str, Any]]]) -> None:
    server, lines = attacked
    assert any(argument["name"] == "name" for line in lines for argument in line.get("mcp.arguments", ()))
    for text in ((server.directory / "audit.jsonl").read_text(), server.written(), server.written("stdout")):
        for secret in (*CANARIES.values(), WRONG_KEY, server.running.key, AUDIT_KEY):
            assert secret not in text


def test_a_line_says_who_did_what_and_how_it_ended(attacked: tuple[ServerProcess, list[dict[str, Any]]]) -> None:
    _, lines = attacked
    (good,) = (line for line in lines if line.get("http.request.id") == "a-good-call")
    expected = {
        "event.action": "tool_call",
        "event.outcome": "success",
        "user.id": "key:default",
        "client.address": "127.0.0.1",
        "mcp.tool": "hello_world",
        "mcp.outcome": "ok",
        "mcp.protocol.outcome": "result",
        "http.response.status_code": 200,
        "url.path": "/mcp",
    }
    assert {name: good[name] for name in expected} == expected
    (argument,) = good["mcp.arguments"]
    assert (argument["name"], argument["size"], len(argument["hash"])) == ("name", 7, 32)
    assert good["event.duration"] > 0
    refusals = [line for line in lines if line["event.action"] == "http_request"]
    assert {line["http.response.status_code"] for line in refusals} >= {401, 404}
    assert "/livez" not in {line["url.path"] for line in lines}, "what was served without a call leaves no line"
    unknown = [line for line in lines if line.get("mcp.outcome") == "unknown" and "mcp.tool" in line]
    assert {(line["mcp.protocol.outcome"], line["error.code"]) for line in unknown} == {("error", "-32602")}


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system opens links in any case")
def test_a_link_in_place_of_the_trail_is_not_followed(tmp_path: Path) -> None:
    """A user who may rename files there must not make the server write to another file, or narrow its mode."""
    target, path = tmp_path / "target", tmp_path / "audit.jsonl"
    target.touch(0o644)
    with running_server(audit_file=path, audit_key=AUDIT_KEY) as server:
        send(server, "GET", "/nothing")
        wait_until(lambda: path.read_bytes() != b"")
        path.rename(tmp_path / "audit.jsonl.1")
        path.symlink_to(target)
        send(server, "GET", "/nothing")
        wait_until(lambda: send(server, "GET", "/health", [key_of(server)]).json()["problems"] != [])
    assert (target.stat().st_mode & 0o777, target.read_bytes()) == (0o644, b"")


# --- tampering --------------------------------------------------------------------------------------------------------


def trail(length: int) -> tuple[Lines, list[Head]]:
    """Return a trail and the head after each of its lines."""
    lines, heads = [], [Head()]
    for number in range(length):
        fields = {"user.id": "key:mallory", "mcp.tool": f"tool {number}"}
        line, head = sealed(derived_key(AUDIT_KEY, "audit chain"), heads[-1], fields)
        lines.append(line)
        heads.append(head)
    return lines, heads


def edited(line: bytes) -> bytes:
    return line.replace(b"mallory", b"alice00")


def forged(number: int, *, key: str) -> bytes:
    """Return a line that goes on from the right place, sealed with another key."""
    _, heads = trail(9)
    return sealed(derived_key(key, "audit chain"), heads[number - 1], {"user.id": "key:alice"})[0]


def resealed(lines: Lines, at: int, *, key: str) -> Lines:
    """Return the trail with one line edited and everything from there on sealed anew, without the key."""
    head = trail(9)[1][at]
    out = lines[:at]
    for _ in lines[at:]:
        line, head = sealed(derived_key(key, "audit chain"), head, {"user.id": "key:alice"})
        out.append(line)
    return out


def older() -> Lines:
    """Return another trail that was written with the same key."""
    head, lines = Head(), []
    for _ in range(9):
        line, head = sealed(derived_key(AUDIT_KEY, "audit chain"), head, {"mcp.tool": "an older trail"})
        lines.append(line)
    return lines


TAMPERING: dict[str, Callable[[Lines], Lines]] = {
    "a letter edited": lambda lines: [*lines[:3], edited(lines[3]), *lines[4:]],
    "the first line edited": lambda lines: [edited(lines[0]), *lines[1:]],
    "the last line edited": lambda lines: [*lines[:8], edited(lines[8])],
    "a space added": lambda lines: [*lines[:3], lines[3].replace(b'{"', b'{ "', 1), *lines[4:]],
    "a line deleted": lambda lines: lines[:3] + lines[4:],
    "the first line deleted": lambda lines: lines[1:],
    "the middle deleted": lambda lines: lines[:2] + lines[7:],
    "two lines swapped": lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
    "turned around": lambda lines: lines[::-1],
    "a line repeated": lambda lines: [*lines[:4], lines[3], *lines[4:]],
    "a line from elsewhere": lambda lines: [*lines[:4], trail(9)[0][7], *lines[4:]],
    "a line of an older trail": lambda lines: [*lines[:4], older()[4], *lines[5:]],
    "the end of an older trail": lambda lines: lines[:4] + older()[4:],
    "a line inserted": lambda lines: [*lines[:4], forged(5, key="mine"), *lines[4:]],
    "a line replaced": lambda lines: [*lines[:4], forged(5, key="mine"), *lines[5:]],
    "sealed anew without the key": lambda lines: resealed(lines, 4, key="mine"),
    "all sealed anew without the key": lambda lines: resealed(lines, 0, key="mine"),
    "a line in halves": lambda lines: [*lines[:4], lines[4][:40] + b"\n", lines[4][40:], *lines[5:]],
    "an empty line": lambda lines: [*lines[:4], b"\n", *lines[4:]],
    "cut within the last line": lambda lines: [*lines[:8], lines[8][:-20]],
    "without its last line feed": lambda lines: [*lines[:8], lines[8][:-1]],
    "blanks": lambda lines: [*lines[:4], b" " * (len(lines[4]) - 1) + b"\n", *lines[5:]],
    "carriage returns": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "a seal in capitals": lambda lines: [*lines[:8], lines[8][:-68] + lines[8][-68:].upper()],
}


def verified(path: Path, *arguments: str) -> int:
    """Run `events verify` as an operator would."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AUDIT_KEY", AUDIT_KEY)
        return cli.run(SERVER, ["events", "verify", str(path), *arguments])


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_found(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "audit.jsonl"
    lines, _ = trail(9)
    path.write_bytes(b"".join(lines))
    assert verified(path) == 0
    changed = TAMPERING[how](lines)
    assert changed != lines
    path.write_bytes(b"".join(changed))
    capsys.readouterr()
    assert verified(path) == 1
    assert "BROKEN" in capsys.readouterr().out


@pytest.mark.parametrize("left", [0, 1, 5, 8])
def test_a_cut_tail_is_found_with_a_head_from_the_log(left: int, tmp_path: Path) -> None:
    """The chain alone cannot show it: what is left is a whole chain."""
    path = tmp_path / "audit.jsonl"
    lines, heads = trail(9)
    path.write_bytes(b"".join(lines[:left]))
    assert verified(path) == 0
    assert verified(path, "--head", str(heads[9])) == 1
    path.write_bytes(b"".join(lines))
    assert verified(path, "--head", str(heads[9]), "--head", str(heads[4])) == 0


def test_another_trail_under_the_same_key_is_found_with_a_head_from_the_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"".join(older()))
    assert verified(path) == 0
    assert verified(path, "--head", str(trail(9)[1][6])) == 1


def test_another_key_finds_nothing_whole(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(forged(1, key="another"))
    assert head_of(path.read_bytes()) is not None
    assert verified(path) == 1
