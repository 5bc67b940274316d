"""`GET /security/events`: the newest security events, for operators."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .log import KINDS, EventLog

_MOST = 1000
_PLACE = re.compile(r"(?!0+-0+$)[0-9]{1,15}-[0-9]{1,10}")  # nothing is before 0-0: for Redis it is an error


class SharedEvents(Protocol):
    """The events of all replicas."""

    async def page(self, limit: int, *, kind: str | None = None, before: str | None = None) -> Mapping[str, Any] | None:
        """Return the newest events before a place; None if they cannot be had now."""


def events_route(events: EventLog, shared: SharedEvents | None = None) -> Callable[[Request], Awaitable[Response]]:
    """Return the route's handler.

    Query parameters: `limit` (1 to 1000, default 100), `event` (one kind) and, where replicas share their events,
    `before` (the `next` of the page before).

    Args:
        events: of this process, shown where there are no others or they cannot be reached.
        shared: of all replicas.
    """

    async def show(request: Request) -> Response:
        limit, kind = request.query_params.get("limit", "100"), request.query_params.get("event")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _MOST):
            raise HTTPException(400, f"`limit` must be a number from 1 to {_MOST}.")
        if kind is not None and kind not in KINDS:
            raise HTTPException(400, f"`event` must be one of {', '.join(sorted(KINDS))}.")
        before = request.query_params.get("before")
        if before is not None and (shared is None or not _PLACE.fullmatch(before)):
            raise HTTPException(400, "`before` must be the `next` of another page of shared events.")
        if shared is not None and (page := await shared.page(int(limit), kind=kind, before=before)) is not None:
            return JSONResponse(page)
        own = {"events": events.recent(int(limit), kind), "totalEvents": events.total}
        return JSONResponse(own if shared is None else own | {"next": None, "degraded": True})

    return show
