"""One attempt over HTTP, and the server's answer to it."""

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx2
from mcp.shared.uri_template import UriTemplate

from .subjects import Subject

VALID = "valid arguments"
TIMEOUT_SECONDS = 8.0
_META = "io.modelcontextprotocol/"
_MODERN = "2026-07-28"
_DEADLINE_MESSAGE = "did not finish within"


@dataclass(frozen=True)
class Attempt:
    """One call: a payload of a family in one argument, or valid arguments."""

    subject: Subject
    arguments: Any
    argument: str = ""
    family: str = VALID
    payload: str = ""


@dataclass(frozen=True)
class Answer:
    """The server's answer, with all its texts."""

    status: int
    text: str
    size: int
    is_error: bool
    seconds: float
    state: Any


class Stopped(Exception):
    """The server hangs or has ended: its subject cannot be attacked further. Arguments: kind of finding, evidence."""


async def ask(client: httpx2.AsyncClient, attempt: Attempt) -> Answer:
    """Send one call, with the confirmation that a destructive tool asks for.

    Raises:
        Stopped: if the server does not answer, or answers that it is broken.
    """
    method, params = _call(attempt)
    headers = {"Content-Type": "application/json"}
    if attempt.subject.confirm:
        params["_meta"] = {
            f"{_META}protocolVersion": _MODERN,
            f"{_META}clientInfo": {"name": "attack", "version": "1"},
            f"{_META}clientCapabilities": {"elicitation": {"form": {}}},
        }
        headers |= {"MCP-Protocol-Version": _MODERN, "Mcp-Method": method, "Mcp-Name": attempt.subject.name}
    started = time.perf_counter()
    for _ in range(2):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        try:
            response = await client.post("/mcp", content=body, headers=headers)
        except httpx2.TimeoutException as error:
            raise Stopped("slow answer", f"no answer in {TIMEOUT_SECONDS:g} s") from error
        except httpx2.HTTPError as error:
            raise Stopped("server ended", "the server ended the connection") from error
        answer = _read(response, time.perf_counter() - started)
        if answer.state is None:
            break
        params["inputResponses"] = {"confirm": {"action": "accept", "content": {"confirm": True}}}
        params["requestState"] = answer.state
    if answer.status >= 500:  # the server may refuse everything from now on
        raise Stopped("server error", f"HTTP {answer.status}")
    if answer.is_error and _DEADLINE_MESSAGE in answer.text:
        raise Stopped("slow answer", "the guard had to end the call at its deadline")
    return answer


def _call(attempt: Attempt) -> tuple[str, dict[str, Any]]:
    subject, arguments = attempt.subject, attempt.arguments
    if subject.kind == "resource":
        readable = {name: value.encode(errors="replace").decode() for name, value in arguments.items()}
        return "resources/read", {"uri": UriTemplate.parse(subject.name).expand(readable)}
    method = "tools/call" if subject.kind == "tool" else "prompts/get"
    return method, {"name": subject.name, "arguments": arguments}


def _read(response: httpx2.Response, seconds: float) -> Answer:
    try:
        document = response.json()
    except ValueError:
        document = response.text
    result = document.get("result") if isinstance(document, dict) else None
    if not isinstance(result, dict):
        result = {"isError": True}
    is_error, state = result.get("isError") is True, result.get("requestState")
    return Answer(response.status_code, _texts(document), len(response.content), is_error, seconds, state)


def _texts(value: Any) -> str:
    """Return every name and text in a JSON document, one on a line."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return "\n".join(map(_texts, value))
    return value if isinstance(value, str) else ""
