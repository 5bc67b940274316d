"""How many connections may be open: in all, and from one address."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ..limits.client_address import Network, client_key, is_in_networks


class Place(NamedTuple):
    """What a new connection gets."""

    key: str
    """Whom it is counted for; empty for nobody in particular."""
    state: Literal["open", "full", "full for this address", "hang up"]


class Connections:
    """Counts what is open. Who comes too many is told so; too many of those are hung up on.

    Args:
        most: connections in all.
        most_each: from one IPv4 address, or from one /64 of IPv6.
        exempt: networks that carry the connections of many clients: trusted proxies.
    """

    def __init__(self, most: int, most_each: int, *, exempt: Sequence[Network] = ()) -> None:
        self._most = most
        self._most_each = most_each
        self._exempt = tuple(exempt)
        self._open: Counter[str] = Counter()
        self._total = 0
        self._told = 0

    def take(self, address: str) -> Place:
        """Take a place for a connection from `address`; give it back by `leave`."""
        key = "" if not address or is_in_networks(address, self._exempt) else client_key(address)
        if self._total >= self._most or (key and self._open[key] >= self._most_each):
            self._told += 1
            if self._told > max(16, self._most // 10):
                return Place(key, "hang up")
            return Place(key, "full" if self._total >= self._most else "full for this address")
        self._total += 1
        self._open[key] += 1
        return Place(key, "open")

    def leave(self, place: Place) -> None:
        """Give a place back, once."""
        if place.state != "open":
            self._told -= 1
            return
        self._total -= 1
        self._open[place.key] -= 1
        if not self._open[place.key]:
            del self._open[place.key]  # an attacker has many addresses
