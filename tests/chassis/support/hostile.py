"""Bodies that are small in bytes and large in work, and a watch on how long the event loop is kept by one step."""

import asyncio
import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .running import RunningServer

VERSIONS = ("2026-07-28", "2025-11-25")
_META = "io.modelcontextprotocol/"


def values(size: int, nodes: int) -> dict[str, str]:
    """Return JSON values by what is special about them.

    Args:
        size: most bytes.
        nodes: most members, items, objects and arrays.
    """

    def array(item: str) -> str:
        number = min(size // (len(item) + 1), nodes // (1 + item.count("[") + item.count("{")))
        return "[" + ",".join([item] * number) + "]"

    def members(value: str) -> str:
        number = min(size // (len(value) + 9), nodes // (1 + value.count("{") + value.count(",")))
        return "{" + ",".join(f'"{one:x}":{value}' for one in range(number)) + "}"

    depth = 50
    return {
        "text": json.dumps("word, " * (size // 6)),
        "text in another script": json.dumps("слово 😀 " * (size // 16), ensure_ascii=False),
        "escaped text": json.dumps("\n" * (size // 2)),
        "escaped code points": '"' + "\\u200b" * (size // 6) + '"',
        "escaped pairs": '"' + "\\ud83d\\ude00" * (size // 12) + '"',
        "quotes": json.dumps('"' * (size // 2)),
        "backslashes": json.dumps("\\" * (size // 2)),
        "combining marks": json.dumps("a" + "\u0316\u0300" * (size // 4), ensure_ascii=False),
        "tags": json.dumps("\U000e0041" * (size // 4), ensure_ascii=False),
        "digits": array("1"),
        "long numbers": array("-" + "7" * 39),
        "fractions": array("0.12345678901234567e-300"),
        "words": array("true"),
        "empty strings": array('""'),
        "short escaped strings": array('"\\\\\\""'),
        "empty arrays": array("[]"),
        "empty objects": array("{}"),
        "small objects": array('{"a":1}'),
        "nests": array("[" * depth + "]" * depth),
        "nested objects": array('{"a":' * depth + "1" + "}" * depth),
        "members": members("1"),
        "members of text": members('"a"'),
        "members of members": members('{"a":{}}'),
        "repeated members": "{" + ",".join(['"a":1'] * min(size // 6, nodes)) + "}",
        "strings": array(json.dumps("word " * (size // nodes // 5))),
        "half tokens": json.dumps("eyJ" * (size // 3)),
        "segments": json.dumps("note://" + "%41/" * (size // 4)),
    }


def bodies(version: str, size: int, nodes: int, *, tool: str, argument: str) -> dict[str, bytes]:
    """Return whole bodies, by what is in which place of them.

    Args:
        version: of the protocol.
        size: most bytes.
        nodes: most members, items, objects and arrays.
        tool: the name of a tool that is there.
        argument: the name of one of its arguments.
    """
    found: dict[str, bytes] = {}
    envelope: dict[str, str] = {}
    if version == VERSIONS[0]:
        envelope = {f"{_META}protocolVersion": f'"{version}"', f"{_META}clientCapabilities": '{"elicitation":{} }'}

    def add(what: str, method: str, params: dict[str, str], *, meta: dict[str, str] | None = None, **more: str) -> None:
        params = params | {"_meta": _object(envelope | (meta or {}))}
        message = {"jsonrpc": '"2.0"', "id": "1", "method": f'"{method}"', **more, "params": _object(params)}
        found[what] = _object(message).encode()

    named = {"name": f'"{tool}"'}
    for name, value in values(size, nodes).items():
        add(f"{name} in an argument", "tools/call", named | {"arguments": _object({argument: value})})
        streamed = {"progressToken": "1"}
        add(f"{name} in an argument, streamed", "tools/call", named | {"arguments": _object({argument: value})},
            meta=streamed)  # fmt: skip
        if value.startswith("{"):
            add(f"{name} as arguments", "tools/call", named | {"arguments": value})
            add(f"{name} as arguments of a prompt", "prompts/get", {"name": '"greet"', "arguments": value})
            add(f"{name} as arguments of no tool", "tools/call", {"name": '"none"', "arguments": value})
        if value.startswith("["):
            uris = _object({"resourceSubscriptions": value})
            add(f"{name} in a filter", "subscriptions/listen", {"notifications": uris})
            found[f"{name} as a batch"] = value.encode()
        if value.startswith('"'):
            add(f"{name} as a name", "tools/call", {"name": value})
            add(f"{name} as a prompt", "prompts/get", {"name": value})
            add(f"{name} as a URI", "resources/read", {"uri": value})
            add(f"{name} as a cursor", "tools/list", {"cursor": value})
            add(f"{name} as a state", "tools/call", named | {"arguments": "{}", "requestState": value})
            add(f"{name} as a progress token", "tools/list", {}, meta={"progressToken": value})
            found[f"{name} as a method"] = _object({"jsonrpc": '"2.0"', "id": "1", "method": value}).encode()
            found[f"{name} as an id"] = _object({"jsonrpc": '"2.0"', "id": value, "method": '"ping"'}).encode()
        add(f"{name} in _meta", "tools/list", {}, meta={"x": value})
        add(f"{name} in params", "tools/list", {"x": value})
        add(f"{name} in the message", "tools/list", {}, x=value)
        add(f"{name} in answers", "tools/call", named | {"arguments": "{}", "inputResponses": _object({"a": value})})
        client = {"protocolVersion": '"2025-11-25"', "clientInfo": '{"name":"a","version":"1"}'}
        add(f"{name} in initialize", "initialize", client | {"capabilities": _object({"x": value})})
        result = {"jsonrpc": '"2.0"', "id": "1", "result": _object({"x": value})}
        found[f"{name} in a response"] = _object(result).encode()
        cancelled = {"jsonrpc": '"2.0"', "method": '"notifications/cancelled"', "params": _object({"x": value})}
        found[f"{name} in a notification"] = _object(cancelled).encode()
        found[f"{name} and no end"] = value.encode()[:-1]
    found["spaces"] = b" " * size + b"{}"
    return found


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}"


def headers(version: str, body: bytes, named: str) -> dict[str, str]:
    """Return the headers that the SDK's client sends with a body."""
    chosen = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    chosen["mcp-protocol-version"] = version
    if version == VERSIONS[0]:
        method = next((m for m in ("tools/call", "tools/list", "prompts/get", "resources/read", "subscriptions/listen")
                       if f'"method":"{m}"'.encode() in body[:200]), "")  # fmt: skip
        chosen |= {"mcp-method": method}
        if method in {"tools/call", "prompts/get"}:
            chosen["mcp-name"] = named
    return chosen


def post(server: "RunningServer", version: str, body: bytes, named: str, *, seconds: float = 60) -> int:
    """Send a body as the SDK's client would, and return the status; 0 if no answer has ended within `seconds`."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    try:
        connection.request("POST", "/mcp", body, headers(version, body, named) | server.credentials)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except TimeoutError:
        return 0
    finally:
        connection.close()


def seconds_to_parse(body: bytes) -> float:
    """Return the processor time that `json.loads` takes for a body, least of three."""
    taken = []
    for _ in range(3):
        started = time.thread_time()
        with contextlib.suppress(ValueError):
            json.loads(body)
        taken.append(time.thread_time() - started)
    return min(taken)


class LoopWatch:
    """Measures the processor time of the longest turn of an event loop: other processes do not change it."""

    def __init__(self) -> None:
        self.longest = 0.0

    def start(self) -> None:
        """Begin, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._turn = self._loop._run_once  # type: ignore[attr-defined]  # what BaseEventLoop calls for each turn
        self._loop._run_once = self._timed  # type: ignore[attr-defined]

    def stop(self) -> None:
        """End at the next turn."""
        self._loop._run_once = self._turn  # type: ignore[attr-defined]

    def during(self, work: Callable[[], Any]) -> float:
        """Return the longest turn while `work` is done by another thread."""
        self.longest = 0.0
        work()
        for _ in range(2):  # the turn that has answered may not have ended
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()
        return self.longest

    def _timed(self) -> None:
        started = time.thread_time()
        self._turn()
        self.longest = max(self.longest, time.thread_time() - started)
