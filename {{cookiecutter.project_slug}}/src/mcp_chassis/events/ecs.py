"""Log lines with the field names of the Elastic Common Schema (ECS 9), for `LOG_FORMAT=ecs`.

What ECS has a field for is there under its dotted name. `mcp` holds every value under the name that `json` gives it.
"""

from typing import Any

from structlog.typing import EventDict, WrappedLogger

from ..limits.client_address import parse_address

VERSION = "9.0.0"  # of the schema, in log lines and in the audit trail
_KINDS = {
    "authentication_failed": ("authentication", "start"),
    "rate_limit_exceeded": ("network", "denied"),
    "input_validation_failed": ("web", "error"),
    "untrusted_origin_blocked": ("network", "denied"),
    "tool_execution_failed": ("web", "error"),
    "http_error": ("web", "error"),
    "key_expires": ("iam", "info"),
}
"""Of each kind of security event, the category and the type."""


def outcome_of(outcome: str) -> str:
    """Return what ECS calls the outcome of a call. A question to the user is no failure."""
    return "unknown" if outcome == "cancelled" else "success" if outcome in {"ok", "asked"} else "failure"


def to_ecs(_: WrappedLogger, __: str, event: EventDict) -> dict[str, Any]:
    """Return the line with ECS names. A processor of structlog, before the one that writes JSON."""
    message, logger, level = (event.pop(name, "") for name in ("event", "logger", "level"))
    facts = event.get("details", {}) if logger == "security" else event
    # A security event names an address where it knows no caller.
    user = event.get("principal") or event.get("identifier", "local")
    line: dict[str, Any] = {
        "@timestamp": event.pop("timestamp", ""),
        "log.level": level,
        "message": message,
        "ecs.version": VERSION,
        "log.logger": logger,
        "event.kind": "event",
        "event.reason": facts.get("reason"),
        "http.request.id": event.get("request_id"),
        "http.request.method": facts.get("method"),
        "http.response.status_code": facts.get("status"),
        "url.path": facts.get("path"),
        "client.address": facts.get("client"),
        "source.ip": next((text for text in (facts.get("client"), user) if text and parse_address(text)), None),
        "user.id": None if parse_address(user) or user in {"local", "unknown"} else user,
    }
    if logger == "security":
        category, kind = _KINDS.get(event.get("kind", ""), ("web", "info"))
        line |= {"event.action": event.get("kind"), "event.category": [category], "event.type": [kind]}
        line["event.outcome"] = "unknown" if kind == "info" else "failure"
        line["event.severity"] = {"low": 21, "medium": 47, "high": 73}.get(event.get("severity", ""))  # as Elastic's
    elif logger in {"access", "audit"}:
        category = "web" if logger == "access" else "api"
        line |= {"event.action": message, "event.category": [category], "event.type": ["access"]}
        line["event.outcome"] = outcome_of(event.get("outcome", "ok" if event.get("status", 0) < 400 else "failed"))
        line["event.duration"] = round(event.get("duration_ms", 0) * 1_000_000)  # nanoseconds
    return {name: value for name, value in line.items() if value is not None} | ({"mcp": event} if event else {})
