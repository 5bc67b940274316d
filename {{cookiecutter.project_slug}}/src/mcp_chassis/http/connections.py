"""How many connections may be open: in all, and from one address."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..limits.client_address import Network, client_key, is_in_networks


class Place(NamedTuple):
    """What a new connection gets."""

    key: str  # the client that it is counted for; empty for a trusted proxy or a local socket
    state: Literal["open", "full", "full for this address", "hang up"]


class Connections:
    """Counts connections. One beyond the limits gets an error response; too many of those are disconnected at once.

    An address is one of IPv4, or a /64 of IPv6. Exempt are trusted proxies: each carries those of many clients.
    """

    def __init__(self, max_total: int, max_per_address: int, *, exempt: Sequence[Network] = ()) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._exempt = exempt
        self._open: Counter[str] = Counter()
        self._total = self._refused = 0

    def count(self) -> int:
        """Return how many are open, also those that only get an error response."""
        return self._total + self._refused

    def take(self, address: str) -> Place:
        """Count a connection from `address`; pass the result to `leave` when it has ended."""
        key = "" if not address or is_in_networks(address, self._exempt) else client_key(address)
        is_full = self._total >= self._max_total
        if is_full or (key and self._open[key] >= self._max_per_address):
            self._refused += 1
            if self._refused > max(16, self._max_total // 10):
                return Place(key, "hang up")
            return Place(key, "full" if is_full else "full for this address")
        self._total += 1
        self._open[key] += 1
        return Place(key, "open")

    def leave(self, place: Place) -> None:
        """Count a connection no longer."""
        if place.state != "open":
            self._refused -= 1
            return
        self._total -= 1
        self._open[place.key] -= 1
        if not self._open[place.key]:
            del self._open[place.key]  # an attacker has many addresses
