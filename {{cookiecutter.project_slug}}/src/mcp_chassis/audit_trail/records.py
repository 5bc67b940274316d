"""Records of calls and of requests, in field names of the Elastic Common Schema; others begin with `mcp.`.

A call that came over HTTP is one line with its request.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.trace import format_trace_id, get_current_span

from ..calls.record import Recorder
from ..events.ecs import outcome_of
from ..http.current_request import RequestContext, current_request
from .trail import AuditTrail, Record


class TrailRecorder(Recorder):
    """Puts records into a trail."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    def describe(self, arguments: Mapping[str, bytes | None]) -> list[Record]:
        """Describe arguments by their names, sizes and keyed hashes."""
        return self._trail.hashes(arguments)

    def call(
        self, action: str, facts: Mapping[str, Any], arguments: Sequence[Record], *, seconds: float, error: int | None
    ) -> None:
        """Record one call."""
        outcome = facts["outcome"]
        record: Record = {
            "event.action": action,
            "event.category": ["api"],
            "event.type": ["access"],
            "event.outcome": outcome_of(outcome),
            "event.duration": round(seconds * 1e9),
            "user.id": facts["principal"],
            "mcp.outcome": outcome,
            "mcp.protocol.outcome": "result" if error is None else "error",
            "mcp.arguments": list(arguments),
        }
        if error:
            record["error.code"] = str(error)
        record |= {f"mcp.{kind}": facts[kind] for kind in ("tool", "prompt", "resource") if kind in facts}
        record |= _user_name(facts)
        if (span := get_current_span().get_span_context()).is_valid:
            record["trace.id"] = format_trace_id(span.trace_id)
        request = current_request.get()
        if request is None or request.finished:
            self._trail.put(record)
        else:
            request.calls.append(record)

    def request(self, request: RequestContext, line: Mapping[str, Any]) -> None:
        """Record one HTTP request: the calls in it, or its refusal."""
        status = line["status"]
        if not request.calls and status < 400:
            return
        http: Record = {
            "http.request.id": request.request_id,
            "http.request.method": line["method"],
            "url.path": line["path"],
            "client.address": request.client,
        }
        if status:  # else the client disconnected before an answer
            http["http.response.status_code"] = status
        refusal: Record = {
            "event.action": "http_request",
            "event.category": ["web"],
            "event.type": ["error"] if status >= 500 else ["access", "denied"],
            "event.outcome": "failure",
        }
        if line["principal"] is not None:
            refusal |= {"user.id": line["principal"], **_user_name(line)}
        if "count" in line:
            http["mcp.requests"] = line["count"]
        for record in request.calls or [refusal]:
            self._trail.put(record | http)


def _user_name(facts: Mapping[str, Any]) -> Record:
    """Return the operator's name of the key that called, if it was one."""
    return {"user.name": facts["key_name"]} if "key_name" in facts else {}
