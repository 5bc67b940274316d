"""Counts wrong credentials, by address and in all, and says who is not heard for now.

One address may fail a few times a minute. A guesser with many addresses stays below that everywhere, so all failures
are counted together as well. While there are too many in all, an address that has failed lately is not heard; one that
has not is. So a distributed attack buys one guess for every fresh address, and nobody who comes with a good credential
is locked out by the failures of others.
"""

import time
from collections import OrderedDict

from ..rate_limiter import RateLimiter

_LATELY = 600.0  # seconds that an address is remembered for a failure
_REMEMBERED = 100_000  # addresses
_ALL = "all"


class FailedAttempts:
    """Args:
    per_minute: wrong credentials of one address.
    overall_per_minute: of all addresses together.
    """

    def __init__(self, *, per_minute: int, overall_per_minute: int) -> None:
        self._each = RateLimiter("wrong_credentials", per_minute=per_minute, burst=per_minute)
        self._all = RateLimiter("wrong_credentials", per_minute=overall_per_minute, burst=overall_per_minute)
        self._failed_at: OrderedDict[str, float] = OrderedDict()

    async def wait(self, address: str) -> int:
        """Return for how many seconds `address` is not heard; 0 if it is heard now."""
        each = await self._each.peek(address)
        if not each.allowed:
            return each.retry_after
        if time.monotonic() - self._failed_at.get(address, -_LATELY) < _LATELY:
            overall = await self._all.peek(_ALL)
            return overall.retry_after
        return 0

    async def note(self, address: str) -> None:
        """Count one wrong credential of `address`."""
        await self._each.hit(address)
        await self._all.hit(_ALL)
        self._failed_at[address] = time.monotonic()
        self._failed_at.move_to_end(address)
        if len(self._failed_at) > _REMEMBERED:
            self._failed_at.popitem(last=False)
