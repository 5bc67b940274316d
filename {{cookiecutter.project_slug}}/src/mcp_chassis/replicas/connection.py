"""The connection to Redis or Valkey: it answers soon or not at all, and no request fails because it is unavailable.

The first failure opens the breaker: requests no longer wait, and only the heartbeat asks whether Redis is back.
Names of keys and channels begin with the project's name. No credential is stored: names, counts, digests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

if TYPE_CHECKING:  # not imported without REDIS_URL: it takes a third of the start
    from redis.asyncio import Redis

log = structlog.get_logger("shared")

_MAX_CONNECTIONS = 16  # callers beyond these wait for one
_HEARTBEAT = 1.0  # seconds
_Result = TypeVar("_Result")


class RedisUnavailable(Exception):
    """Redis is unavailable. The caller falls back to this process's own state."""


class SharedRedis:
    """Args:
    url: of Redis or Valkey; `rediss://` is TLS, and a user name and a password may be in it.
    project: the first part of every name.
    timeout: seconds that one question may take, waiting for a connection included.
    """

    def __init__(self, url: str, *, project: str, timeout: float = 0.25) -> None:
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            protocol=2,  # with 3, redis-py 8 lends connections that the server has closed
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self.client: Redis = Redis(connection_pool=pool)
        self._project = project
        # Channels do not belong to one of the databases that a URL may name.
        self._database = pool.connection_kwargs.get("db") or 0
        self._timeout = timeout
        self.is_unavailable = False
        self._refusal = ""
        self.recoveries = 0
        """How often Redis has come back: a subscription made before may be dead without knowing it."""

    def name(self, *parts: str) -> str:
        """Return the name of a key."""
        return ":".join((self._project, *parts))

    def channel(self, name: str) -> str:
        """Return the name of a channel."""
        return f"{self._project}:{self._database}:{name}"

    async def ask(self, question: Callable[["Redis"], Awaitable[_Result]]) -> _Result:
        """Return the answer to a question.

        Raises:
            RedisUnavailable: at once while Redis is known to be unavailable, else after the time-out at the latest.
        """
        if self.is_unavailable:
            raise RedisUnavailable
        return await self._ask(question)

    async def ask_or_none(self, question: Callable[["Redis"], Awaitable[_Result]]) -> _Result | None:
        """Return the answer to a question; None while Redis is unavailable."""
        try:
            return await self.ask(question)
        except RedisUnavailable:
            return None

    def problems(self) -> list[str]:
        """Return what an operator should know of it."""
        return ["Redis is not reachable: this replica counts and decides by itself."] if self.is_unavailable else []

    async def keep(self, duty: Callable[[], Awaitable[Any]]) -> None:
        """Do a duty every second, and find out whether Redis is back. Runs until it is cancelled."""
        while True:
            try:
                if self.is_unavailable:
                    await self.client.connection_pool.disconnect(inuse_connections=False)
                    # A write, as most questions are: a Redis that is full, or a read-only copy, would answer a PING.
                    await self._ask(lambda client: client.set(self.name("heartbeat"), 1, ex=60))
                    self.is_unavailable, self.recoveries = False, self.recoveries + 1
                    log.warning("Redis is reachable again")
                await duty()
            except Exception as error:  # RedisUnavailable, or what closing a dead connection raises
                log.debug("still unavailable", cause=type(error).__name__)
            await asyncio.sleep(_HEARTBEAT)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.aclose()
        await self.client.connection_pool.disconnect()

    async def _ask(self, question: Callable[["Redis"], Awaitable[_Result]]) -> _Result:
        try:
            async with asyncio.timeout(self._timeout):
                return await question(self.client)
        except Exception as error:  # whatever it is: no request may fail for it
            cause = error.__cause__ or error
            if (refusal := _refusal(cause)) is not None:
                if refusal != self._refusal:  # once: every request may ask it
                    self._refusal = refusal
                    log.error("Redis refused a question: it is decided in this process", cause=refusal)
            elif not self.is_unavailable:
                self.is_unavailable = True
                log.error("Redis is not reachable: deciding in this process only", cause=type(cause).__name__)
            raise RedisUnavailable from error


def _refusal(error: BaseException) -> str | None:
    """Return why Redis refused this one question, such as one about a key that holds another type; None if it does not
    serve at all. Nothing else may fall back because of such a question: any caller could cause an outage.
    """
    from redis.exceptions import ResponseError  # noqa: PLC0415

    reason = str(error).rpartition("caused error: ")[2].lstrip("('")  # a pipeline writes the command before it
    # Of a Redis that takes no writes, or nothing now, the client library makes subclasses, but for these.
    if type(error) is not ResponseError or reason.startswith(("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")):
        return None
    return " ".join(reason.split()[:6])
