"""Limits how often one caller may ask, and how much it may send: by principal if there is one, else by address."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import authenticated, current_principal
from ..counters import count_decision
from ..events.log import EventLog
from ..http.current_request import client_of_request
from ..limits.client_address import client_key
from ..limits.rate_limiter import Decision, RateLimiter
from .responses import Refusal


class RateLimitLayer:
    """Refuses callers above their rate, and tells every caller how much is left.

    Args:
        app: the next layer.
        events: where refusals are recorded.
        limiter: does the counting.
        exempt: paths that are never limited, for probes.
    """

    def __init__(self, app: ASGIApp, *, events: EventLog, limiter: RateLimiter, exempt: frozenset[str]) -> None:
        self.app = app
        self._events = events
        self._limiter = limiter
        self._exempt = exempt
        # Fields of draft-ietf-httpapi-ratelimit-headers.
        self._policy = (b"ratelimit-policy", f'"default";q={limiter.per_minute};w=60'.encode())
        self._refusal = Refusal(429, "Too many requests. Wait for the number of seconds in Retry-After.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._exempt:
            await self.app(scope, receive, send)
            return
        caller = authenticated()
        key = f"address:{client_key(client_of_request())}" if caller is None else caller.id
        headers: list[tuple[bytes, bytes]] = []

        async def take_places(places: int) -> bool:
            """Take places for this request, or refuse it and return False."""
            decision = await self._limiter.hit(key, places)
            count_decision("requests", allowed=decision.allowed)
            headers[:] = self._headers(decision)
            if not decision.allowed:
                principal = current_principal.get()
                identifier = principal.id if principal is not None else None
                self._events.record(
                    "rate_limit_exceeded", identifier, path=scope["path"], retry_after=decision.retry_after
                )
                await self._refusal(scope, receive, send, headers=headers)
            return decision.allowed

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if await take_places(1):
            if self._limiter.burst > 1:
                scope.setdefault("state", {})["take_places"] = take_places
            await self.app(scope, receive, send_with_headers)

    def _headers(self, decision: Decision) -> list[tuple[bytes, bytes]]:
        seconds = decision.reset if decision.allowed else decision.retry_after
        headers = [self._policy, (b"ratelimit", f'"default";r={decision.remaining};t={seconds}'.encode())]
        if not decision.allowed:
            headers.append((b"retry-after", str(decision.retry_after).encode()))
        return headers
