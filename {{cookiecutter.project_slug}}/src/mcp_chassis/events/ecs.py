"""Log lines with the field names of the Elastic Common Schema (ECS 8), for `LOG_FORMAT=ecs`.

What ECS has a field for is there under its dotted name. `mcp` holds every value under the name that `json` gives it.
"""

from typing import Any

from structlog.typing import EventDict, WrappedLogger

from ..limits.client_address import parse_address

# The kind of a security event: its categories and types.
_KINDS: dict[str, tuple[list[str], list[str]]] = {
    "authentication_failed": (["authentication"], ["start"]),
    "rate_limit_exceeded": (["network"], ["denied"]),
    "input_validation_failed": (["web"], ["error"]),
    "untrusted_origin_blocked": (["network"], ["denied"]),
    "tool_execution_failed": (["web"], ["error"]),
    "http_error": (["web"], ["error"]),
    "key_expires": (["iam"], ["info"]),
}
_SEVERITIES = {"low": 21, "medium": 47, "high": 73}  # the numbers of Elastic's own rules


def to_ecs(_: WrappedLogger, __: str, event: EventDict) -> dict[str, Any]:
    """Return the line with ECS names. A processor of structlog, before the one that writes JSON."""
    message, logger, level = (event.pop(name, "") for name in ("event", "logger", "level"))
    line: dict[str, Any] = {
        "@timestamp": event.pop("timestamp", ""),
        "log.level": level,
        "message": message,
        "ecs.version": "8.17.0",
        "log.logger": logger,
        "event.kind": "event",
        "event.dataset": f"mcp.{logger}",
        "http.request.id": event.get("request_id"),
        "http.request.method": event.get("method"),
        "http.response.status_code": event.get("status"),
        "url.path": event.get("path"),
        "source.ip": event.get("client"),
        "user.id": event.get("principal"),
    }
    if logger == "security":
        line |= _security(event)
    elif logger in {"access", "audit"}:
        is_failure = event.get("status", 0) >= 400 or event.get("outcome", "ok") != "ok"
        line |= {"event.action": message, "event.category": ["web"], "event.type": ["access"]}
        line["event.outcome"] = "failure" if is_failure else "success"
        line["event.duration"] = round(event.get("duration_ms", 0) * 1_000_000)  # nanoseconds
    if parse_address(line["source.ip"] or "") is None:  # `unknown`
        del line["source.ip"]
    return {name: value for name, value in line.items() if value is not None} | ({"mcp": event} if event else {})


def _security(event: EventDict) -> dict[str, Any]:
    details, identifier = event.get("details", {}), event.get("identifier", "")
    categories, types = _KINDS.get(event.get("kind", ""), (["web"], ["info"]))
    is_address = parse_address(identifier) is not None
    return {
        "event.action": event.get("kind"),
        "event.category": categories,
        "event.type": types,
        "event.outcome": "unknown" if types == ["info"] else "failure",
        "event.severity": _SEVERITIES.get(event.get("severity", "")),
        "event.reason": details.get("reason"),
        "http.request.method": details.get("method"),
        "http.response.status_code": details.get("status"),
        "url.path": details.get("path"),
        "source.ip": details.get("client") or (identifier if is_address else None),
        "user.id": None if is_address or identifier in {"local", "unknown"} else identifier,
    }
