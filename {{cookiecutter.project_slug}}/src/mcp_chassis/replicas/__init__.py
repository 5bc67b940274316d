"""Several processes as one server: what they share goes through Redis or Valkey."""

import argparse
import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..rooms import Room
from .settings import ReplicaSettings

if TYPE_CHECKING:
    from ..cli.check import Finding
    from ..parts import Parts
    from ..service import Service
    from ..settings import Settings
    from .connection import SharedRedis


class Replicas(Room):
    """Shares limits, events, confirmations, revoked keys and change notifications; serves with several workers."""

    settings = ReplicaSettings

    def assemble(self, parts: "Parts") -> None:
        """Share what there is to share, if there is a Redis."""
        own = parts.settings.room(ReplicaSettings)
        redis = _redis(own, parts.name)
        if redis is None or parts.transport == "stdio":
            return
        from ..calls.confirmation import LIFETIME  # noqa: PLC0415
        from .fleet import Fleet  # noqa: PLC0415
        from .rate_limiter import SharedRateLimiter  # noqa: PLC0415

        fleet = Fleet(redis, question_lifetime=LIFETIME, revoked=parts.keys.revoked)
        parts.make_limiter = partial(
            SharedRateLimiter,
            redis=redis,
            on_outage=own.rate_limit_on_outage,
            processes=own.replicas * own.workers,
        )
        parts.failures, parts.shared_events, parts.revoked = fleet.failures, fleet.events, fleet.revocations
        parts.bus, parts.questions, parts.state_keys = fleet.bus, fleet.questions, own.state_keys
        parts.listeners.append(fleet.events.add)
        parts.problems.append(redis.problems)
        parts.degraded.append(lambda: redis.away)
        parts.running.append(fleet.running)

    def processes(self, settings: "Settings") -> int:
        """Return how many workers serve."""
        return settings.room(ReplicaSettings).workers

    def serve(self, service: "Service", settings: "Settings") -> bool:
        """Serve with several workers, if there are to be any."""
        workers = settings.room(ReplicaSettings).workers
        if workers == 1:
            return False
        from ..cli.serve import serve_one  # noqa: PLC0415
        from ..service import require_startable  # noqa: PLC0415
        from .workers import listening_socket, run_workers  # noqa: PLC0415

        require_startable(service, settings)  # what cannot be used is said once, and here
        with listening_socket(settings.host, settings.port) as listener:
            run_workers(workers, partial(serve_one, service, settings, [listener]))
        return True

    def add_commands(self, commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
        """Add `serve --workers`."""
        commands.choices["serve"].add_argument(
            "--workers", type=int, help="processes that serve together (setting WORKERS)"
        )

    def revoker(self, service: "Service", settings: "Settings") -> Callable[[str], bool] | None:
        """Return what revokes a key on all replicas, and says whether Redis could be reached."""
        own = settings.room(ReplicaSettings)
        return None if own.redis_url is None else lambda key_id: asyncio.run(_revoked(own, service.name, key_id))

    def findings(self, service: "Service", settings: "Settings") -> "Iterator[Finding]":
        """Say whether Redis answers."""
        from ..cli.check import Finding  # noqa: PLC0415

        url = settings.room(ReplicaSettings).redis_url
        parts = urlsplit(url.get_secret_value()) if url is not None else None
        if parts is None or parts.scheme == "unix":
            return
        where = f"{parts.hostname}:{parts.port or 6379}"
        try:
            socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=2).close()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            yield Finding("WARN", "Redis", f"{where} does not answer ({reason}): each process would count for itself.")
        else:
            yield Finding("OK", "Redis", f"{where} answers")


def _redis(own: ReplicaSettings, project: str) -> "SharedRedis | None":
    if own.redis_url is None:
        return None
    from .connection import SharedRedis  # noqa: PLC0415

    return SharedRedis(own.redis_url.get_secret_value(), project=project, timeout=own.redis_timeout)


async def _revoked(own: ReplicaSettings, project: str, key_id: str) -> bool:
    from .connection import RedisAway  # noqa: PLC0415
    from .revocations import Revocations  # noqa: PLC0415

    redis = _redis(own, project)
    assert redis is not None  # noqa: S101  (its caller has looked)
    try:
        await Revocations(redis).add(key_id)
    except RedisAway:
        return False
    finally:
        await redis.close()
    return True


ROOM = Replicas()
