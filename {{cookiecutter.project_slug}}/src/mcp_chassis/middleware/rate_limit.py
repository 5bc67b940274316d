"""Limits how often one caller may ask, and how much it may send: by principal if there is one, else by address."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth.principal import authenticated, current_principal
from ..counters import count_decision
from ..events.log import EventLog
from ..http.current_request import client_of_request
from ..limits.client_address import client_key
from ..limits.rate_limiter import Decision, RateLimiter
from .responses import Refusal

_TOO_MANY = Refusal(429, "Too many requests. Wait for the number of seconds in Retry-After.")


@dataclass
class RateLimitLayer:
    """Refuses callers above their rate, and tells every caller how much is left.

    Args:
        app: the next layer. It may take further places for a request by `scope["state"]["take_places"]`.
        events: where refusals are recorded.
        limiter: does the counting.
        exempt: paths that are never limited, for probes.
    """

    app: ASGIApp
    events: EventLog
    limiter: RateLimiter
    exempt: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.exempt:
            await self.app(scope, receive, send)
            return
        caller = authenticated()
        key = f"address:{client_key(client_of_request())}" if caller is None else caller.id
        decision: Decision

        async def take_places(places: int) -> Refusal | None:
            """Take places, all or none, and return the refusal if they are not there."""
            nonlocal decision
            decision = await self.limiter.hit(key, places)
            count_decision("requests", allowed=decision.allowed)
            if decision.allowed:
                return None
            principal = current_principal.get()
            identifier = principal.id if principal is not None else None
            self.events.record("rate_limit_exceeded", identifier, path=scope["path"], retry_after=decision.retry_after)
            return _TOO_MANY

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers(decision)]
            await send(message)

        refusal = await take_places(1)
        if self.limiter.burst > 1:
            scope.setdefault("state", {})["take_places"] = take_places
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _headers(self, decision: Decision) -> list[tuple[bytes, bytes]]:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers."""
        seconds = decision.reset if decision.allowed else decision.retry_after
        headers = [
            (b"ratelimit-policy", b'"default";q=%d;w=60' % self.limiter.per_minute),
            (b"ratelimit", b'"default";r=%d;t=%d' % (decision.remaining, seconds)),
        ]
        return headers if decision.allowed else [*headers, (b"retry-after", b"%d" % seconds)]
