"""Limits how often one caller may ask, and how much it may send: by principal if there is one, else by address."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Scope

from ..auth.principal import authenticated, current_principal
from ..counters import count_decision
from ..http.current_request import client_of_request, current_request
from ..limits.client_address import client_key
from ..limits.rate_limiter import RateLimiter
from .gate import Gate
from .responses import Refusal

_TOO_MANY = Refusal(429, "Too many requests. Wait for the number of seconds in Retry-After.")


@dataclass
class RateLimitLayer(Gate):
    """Refuses callers above their rate, and tells every caller how much is left.

    Further layers may take further places for a request by `scope["state"]["take_places"]`.
    """

    limiter: RateLimiter
    exempt: frozenset[str]  # paths of probes

    def __post_init__(self) -> None:
        self._policy = (b"ratelimit-policy", b'"default";q=%d;w=60' % self.limiter.per_minute)

    async def refusal(self, scope: Scope) -> ASGIApp | None:
        if scope["path"] in self.exempt:
            return None
        caller = authenticated()
        key = f"address:{client_key(client_of_request())}" if caller is None else caller.id
        path = scope["path"]  # not the scope itself: it will hold the function, and a cycle lives until a collection

        async def take_places(places: int) -> Refusal | None:
            """Take places, all or none, and return the refusal if they are not there."""
            decision = await self.limiter.hit(key, places)
            count_decision("requests", allowed=decision.allowed)
            seconds = decision.reset if decision.allowed else decision.retry_after
            headers = [  # draft-ietf-httpapi-ratelimit-headers
                self._policy,
                (b"ratelimit", b'"default";r=%d;t=%d' % (decision.remaining, seconds)),
            ]
            if (request := current_request.get()) is not None:
                request.response_headers = headers
            if decision.allowed:
                return None
            headers.append((b"retry-after", b"%d" % seconds))
            principal = current_principal.get()
            identifier = principal.id if principal is not None else None
            self.events.record("rate_limit_exceeded", identifier, path=path, retry_after=decision.retry_after)
            return _TOO_MANY

        if self.limiter.burst > 1:
            scope.setdefault("state", {})["take_places"] = take_places
        return await take_places(1)
