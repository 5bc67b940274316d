"""Counts wrong credentials, by address and in all, and decides when there are too many.

One address may fail a few times a minute. An attacker with many addresses stays below that limit on each of them, so
all failures are counted together as well. While there are too many in all, every address that has failed within the
last ten minutes is locked out, and no other. A credential that was valid once is not a guess: tokens of every user
expire. `middleware/authentication.py` describes what being locked out means.
"""

import math
import time
from collections import OrderedDict
from typing import Protocol
from weakref import WeakValueDictionary

import anyio

from .rate_limiter import LimiterFactory, RateLimiter

_MEMORY_SECONDS = 600.0
MAX_ADDRESSES = 20_000
_MAX_CHECKS = 5  # running remote checks for one address; half of all that may run
_ALL = "all"
_NEVER = (-math.inf, -math.inf)


class SharedFailures(Protocol):
    """Addresses that failed on any replica."""

    async def tell(self, address: str) -> None:
        """Tell all replicas of an address, if that can be done now."""

    def guessed_at(self, address: str) -> float:
        """Return when a replica told of the address, by `time.monotonic()`; minus infinity if none has."""


class FailedAttempts:
    """Counts wrong credentials.

    Args:
        per_minute: wrong credentials of one address.
        overall_per_minute: of all addresses together.
        make_limiter: makes the two counters.
        shared: exchanges addresses with the other replicas.
    """

    def __init__(
        self,
        *,
        per_minute: int,
        overall_per_minute: int,
        make_limiter: LimiterFactory = RateLimiter,
        shared: SharedFailures | None = None,
    ) -> None:
        self._each = make_limiter("wrong_credentials", per_minute=per_minute, burst=per_minute, max_keys=MAX_ADDRESSES)
        self._all = make_limiter("wrong_credentials", per_minute=overall_per_minute, burst=overall_per_minute)
        self._shared = shared
        self._failed_at: OrderedDict[str, tuple[float, float]] = OrderedDict()  # the last failure, the last guess
        self._checks: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()

    async def wait(self, address: str) -> int:
        """Return the seconds until `address` may fail again; 0 if it may now."""
        now = time.monotonic()
        failed_at, guessed_at = self._failed_at.get(address, _NEVER)
        if self._shared is not None:
            guessed_at = max(guessed_at, self._shared.guessed_at(address))
            failed_at = max(failed_at, guessed_at)
        if now - failed_at >= _MEMORY_SECONDS:
            return 0  # the common case costs one look-up
        each = await self._each.peek(address)
        if not each.allowed:
            return each.retry_after
        return (await self._all.peek(_ALL)).retry_after if now - guessed_at < _MEMORY_SECONDS else 0

    def remote_check(self, address: str) -> anyio.Semaphore:
        """Return what is held during a remote check for `address`: parallel checks would start before one fails."""
        return self._checks.setdefault(address, anyio.Semaphore(_MAX_CHECKS))

    async def note(self, address: str, *, guess: bool = True) -> int:
        """Count one wrong credential, unless the address is locked out; return the seconds to wait.

        Args:
            address: where it came from.
            guess: whether it was never valid, so that it counts among those of all addresses.
        """
        if wait := await self.wait(address):
            return wait
        self._remember(address, guess=guess)
        each = await self._each.hit(address)
        if guess:
            await self._all.hit(_ALL)
            if self._shared is not None:
                await self._shared.tell(address)
        return each.retry_after  # not 0 if concurrent requests have taken the last place

    def _remember(self, address: str, *, guess: bool) -> None:
        now = time.monotonic()
        _, guessed_at = self._failed_at.pop(address, _NEVER)
        self._failed_at[address] = now, now if guess else guessed_at
        if len(self._failed_at) > MAX_ADDRESSES:
            self._failed_at.popitem(last=False)
