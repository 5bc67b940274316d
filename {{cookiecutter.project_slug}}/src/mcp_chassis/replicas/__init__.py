"""Several processes as one server: what they share goes through Redis or Valkey."""

import argparse
import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..rooms import Finding, Room
from .settings import ReplicaSettings

if TYPE_CHECKING:
    from ..parts import Parts
    from ..service import Service
    from ..settings import Settings
    from .connection import SharedRedis

_Answer = TypeVar("_Answer")


class Replicas(Room):
    """Shares limits, events, confirmations, revoked keys and change notifications; serves with several workers."""

    settings = ReplicaSettings

    def assemble(self, parts: "Parts") -> None:
        """Share the server's state, if there is a Redis."""
        own = parts.settings.room(ReplicaSettings)
        if own.redis_url is None or parts.transport == "stdio":
            return
        from ..calls.confirmation import LIFETIME  # noqa: PLC0415
        from .connection import SharedRedis  # noqa: PLC0415
        from .fleet import Fleet  # noqa: PLC0415
        from .handles import SharedHandles  # noqa: PLC0415
        from .rate_limiter import SharedRateLimiter  # noqa: PLC0415

        redis = SharedRedis(own.redis_url.get_secret_value(), project=parts.name, timeout=own.redis_timeout)
        fleet = Fleet(redis, question_lifetime=LIFETIME, revoked=parts.keys.revoked, used=lambda: parts.keys.used)
        parts.make_limiter = partial(
            SharedRateLimiter, redis=redis, on_outage=own.rate_limit_on_outage, processes=own.replicas * own.workers
        )
        parts.failures, parts.shared_events, parts.revoked = fleet.failures, fleet.events, fleet.revocations
        parts.bus, parts.questions, parts.state_keys = fleet.bus, fleet.questions, own.state_keys
        parts.handles = SharedHandles(redis, own.state_keys)
        parts.listeners.append(fleet.events.add)
        parts.problems.append(redis.problems)
        parts.degraded.append(lambda: redis.is_unavailable)
        parts.running.append(fleet.running)

    def processes(self, settings: "Settings") -> int:
        """Return how many workers serve."""
        return settings.room(ReplicaSettings).workers

    def serve(self, service: "Service", settings: "Settings") -> bool:
        """Serve with several workers, if more than one is set."""
        workers = settings.room(ReplicaSettings).workers
        if workers == 1:
            return False
        from ..auth.keys.store import usable_keys  # noqa: PLC0415
        from ..cli.serve import serve_one  # noqa: PLC0415
        from ..http.server import listening_socket  # noqa: PLC0415
        from ..service import require_approved, unchecked_server  # noqa: PLC0415
        from .workers import run_workers  # noqa: PLC0415

        usable_keys(settings)  # or every worker would report the same
        require_approved(unchecked_server(service), settings)
        with listening_socket(settings.host, settings.port) as listener:
            run_workers(workers, partial(serve_one, service, settings, [listener]))
        return True

    def add_commands(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add `serve --workers`."""
        commands.choices["serve"].add_argument(
            "--workers", type=int, help="processes that serve together (setting WORKERS)"
        )

    def revoker(self, service: "Service", settings: "Settings") -> Callable[[str], bool] | None:
        """Return what revokes a key on all replicas, and returns whether Redis could be reached."""
        if settings.room(ReplicaSettings).redis_url is None:
            return None
        from .knowledge import Revocations  # noqa: PLC0415

        async def revoke(redis: "SharedRedis", key_id: str) -> bool:
            await Revocations(redis).add(key_id)
            return True

        return lambda key_id: _asked(service, settings, partial(revoke, key_id=key_id), otherwise=False)

    def days_of_use(self, service: "Service", settings: "Settings") -> Mapping[str, str]:
        """Return the day on which each key was last used on any replica; none if Redis does not answer."""
        from .knowledge import KeyUse  # noqa: PLC0415

        return _asked(service, settings, lambda redis: KeyUse(redis).days(), otherwise={})

    def findings(self, service: "Service", settings: "Settings") -> Iterator[Finding]:
        """Report whether Redis answers."""
        url = settings.room(ReplicaSettings).redis_url
        parts = urlsplit(url.get_secret_value()) if url is not None else None
        if parts is None or parts.scheme == "unix":
            return
        host, port = parts.hostname or "", parts.port or 6379
        try:
            socket.create_connection((host, port), timeout=2).close()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            text = f"{host}:{port} does not answer ({reason}): each process would count for itself."
            yield Finding("WARN", "Redis", text)
        else:
            yield Finding("OK", "Redis", f"{host}:{port} answers")


def _asked(
    service: "Service", settings: "Settings", ask: "Callable[[SharedRedis], Awaitable[_Answer]]", *, otherwise: _Answer
) -> _Answer:
    """Return what `ask` finds out in Redis; `otherwise` if there is none, or it does not answer."""
    from .connection import RedisUnavailable, SharedRedis  # noqa: PLC0415

    own = settings.room(ReplicaSettings)

    async def answer(url: SecretStr) -> _Answer:
        redis = SharedRedis(url.get_secret_value(), project=service.name, timeout=own.redis_timeout)
        try:
            return await ask(redis)
        except RedisUnavailable:
            return otherwise
        finally:
            await redis.close()

    return asyncio.run(answer(url)) if (url := own.redis_url) is not None else otherwise


ROOM = Replicas()
