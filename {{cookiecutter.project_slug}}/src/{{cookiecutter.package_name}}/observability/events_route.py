"""`GET /security/events`: the newest security events, for whoever watches the server."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .events import KINDS, EventLog

_MOST = 1000


def events_route(events: EventLog) -> Callable[[Request], Awaitable[Response]]:
    """Return the route's handler.

    Query parameters: `limit` (1 to 1000, default 100) and `event` (one kind).
    """

    async def show(request: Request) -> Response:
        limit, kind = request.query_params.get("limit", "100"), request.query_params.get("event")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _MOST):
            raise HTTPException(400, f"`limit` must be a number from 1 to {_MOST}.")
        if kind is not None and kind not in KINDS:
            raise HTTPException(400, f"`event` must be one of {', '.join(sorted(KINDS))}.")
        return JSONResponse({"events": events.recent(int(limit), kind), "totalEvents": events.total})

    return show
