"""Counts wrong credentials, by address and in all, and says when there are too many.

One address may fail a few times a minute. A guesser with many addresses stays below that everywhere, so all failures
are counted together as well. While there are too many in all, the limit is reached for an address that has failed
within the last ten minutes, and for no other. A credential that was good once is no guess: tokens of every user expire,
and each user would be an address that has failed. `authentication` says what follows when a limit is reached.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

import anyio

from .rate_limiter import LimiterFactory, RateLimiter

_LATELY = 600.0  # seconds that an address is remembered for a failure
_REMEMBERED = 20_000  # addresses
_AT_ONCE = 5  # questions about credentials of one address; half of what the issuer is asked at the same time
_ALL = "all"
_NEVER = (-math.inf, -math.inf)


class SharedFailures(Protocol):
    """Addresses that have failed anywhere, known to all replicas."""

    async def tell(self, address: str) -> None:
        """Tell all replicas of an address, if that can be done now."""

    def follow(self, heard: Callable[[str], None]) -> None:
        """Call `heard` with each address that is told of."""


class FailedAttempts:
    """Args:
    per_minute: wrong credentials of one address.
    overall_per_minute: of all addresses together.
    make_limiter: makes the two counters.
    shared: lets all replicas know who has failed lately.
    """

    def __init__(
        self,
        *,
        per_minute: int,
        overall_per_minute: int,
        make_limiter: LimiterFactory = RateLimiter,
        shared: SharedFailures | None = None,
    ) -> None:
        self._each = make_limiter("wrong_credentials", per_minute=per_minute, burst=per_minute, max_keys=_REMEMBERED)
        self._all = make_limiter("wrong_credentials", per_minute=overall_per_minute, burst=overall_per_minute)
        self._shared = shared
        if shared is not None:
            shared.follow(self._remember)
        self._failed_at: OrderedDict[str, tuple[float, float]] = OrderedDict()  # when last, and when last by a guess
        self._turns: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()

    async def wait(self, address: str) -> int:
        """Return the seconds until `address` may fail again; 0 if it may now."""
        now = time.monotonic()
        failed_at, guessed_at = self._failed_at.get(address, _NEVER)
        if now - failed_at >= _LATELY:
            return 0  # almost everybody: one look-up
        each = await self._each.peek(address)
        if not each.allowed:
            return each.retry_after
        return (await self._all.peek(_ALL)).retry_after if now - guessed_at < _LATELY else 0

    def turn(self, address: str) -> anyio.Semaphore:
        """Return what a question about a credential of `address` waits for: else a thousand at once count as none."""
        return self._turns.setdefault(address, anyio.Semaphore(_AT_ONCE))

    async def note(self, address: str, *, guess: bool = True) -> int:
        """Count one wrong credential of `address`, unless it has too many: then return the seconds to wait.

        Args:
            address: where it came from.
            guess: it was never good, so it counts among those of all addresses.
        """
        if wait := await self.wait(address):
            return wait
        self._remember(address, guess=guess)
        each = await self._each.hit(address)
        if guess:
            await self._all.hit(_ALL)
            if self._shared is not None:
                await self._shared.tell(address)
        return each.retry_after  # not 0 if others have taken the last place since

    def _remember(self, address: str, *, guess: bool = True) -> None:
        now = time.monotonic()
        _, guessed_at = self._failed_at.pop(address, _NEVER)
        self._failed_at[address] = now, now if guess else guessed_at
        if len(self._failed_at) > _REMEMBERED:
            self._failed_at.popitem(last=False)
