"""Counts wrong credentials, by address and in all, and says who is not heard for now.

One address may fail a few times a minute. A guesser with many addresses stays below that everywhere, so all failures
are counted together as well. While there are too many in all, an address that has failed lately is not heard; one that
has not is. So a distributed attack buys one guess for every fresh address, and nobody who comes with a good credential
is locked out by the failures of others. A credential that was good once is no guess: tokens of every user expire, and
each user would be an address that has failed lately.
"""

import time
from collections import OrderedDict
from weakref import WeakValueDictionary

import anyio

from ..rate_limiter import RateLimiter

_LATELY = 600.0  # seconds that an address is remembered for a failure
_REMEMBERED = 20_000  # addresses
_AT_ONCE = 5  # questions about credentials of one address; half of what the issuer is asked at the same time
_ALL = "all"


class FailedAttempts:
    """Args:
    per_minute: wrong credentials of one address.
    overall_per_minute: of all addresses together.
    """

    def __init__(self, *, per_minute: int, overall_per_minute: int) -> None:
        self._each = RateLimiter("wrong_credentials", per_minute=per_minute, burst=per_minute, max_keys=_REMEMBERED)
        self._all = RateLimiter("wrong_credentials", per_minute=overall_per_minute, burst=overall_per_minute)
        self._failed_at: OrderedDict[str, float] = OrderedDict()
        self._turns: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()

    async def wait(self, address: str) -> int:
        """Return for how many seconds `address` is not heard; 0 if it is heard now."""
        failed_at = self._failed_at.get(address)
        if failed_at is None:
            return 0
        each = await self._each.peek(address)
        if not each.allowed:
            return each.retry_after
        if time.monotonic() - failed_at < _LATELY:
            overall = await self._all.peek(_ALL)
            return overall.retry_after
        return 0

    def turn(self, address: str) -> anyio.Semaphore:
        """Return what a question about a credential of `address` waits for: else a thousand at once count as none."""
        return self._turns.setdefault(address, anyio.Semaphore(_AT_ONCE))

    async def note(self, address: str, *, guess: bool = True) -> None:
        """Count one wrong credential of `address`; among those of all addresses only if it was never good."""
        await self._each.hit(address)
        if not guess:
            return
        await self._all.hit(_ALL)
        self._failed_at[address] = time.monotonic()
        self._failed_at.move_to_end(address)
        if len(self._failed_at) > _REMEMBERED:
            self._failed_at.popitem(last=False)
