"""A client that costs as little as possible: prepared bytes on kept connections, and no HTTP library.

    python benchmarks/load.py PORT CLIENTS REQUESTS < request

Runs in a process of its own, so that the server's processor time is the server's. Prints one JSON document: seconds in
all, the median and the 99th percentile in milliseconds, and how many answers had which status.
"""

import asyncio
import json
import sys
import time
from collections import Counter


class Client(asyncio.Protocol):
    """Sends the same request again as soon as it is answered, as long as some are left."""

    left = 0
    request = b""
    times: list[float] = []  # noqa: RUF012  (one run a process: everything is shared on purpose)
    statuses: Counter[str] = Counter()  # noqa: RUF012

    def __init__(self, port: int) -> None:
        self._port = port
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._buffer, self._whole = bytearray(), 0
        if Client.left <= 0:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        Client.left -= 1
        self._asked = time.perf_counter()
        self._transport.write(Client.request)

    def data_received(self, data: bytes) -> None:
        """Wait for the last byte of the answer."""
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            _, _, length = head.partition(b"content-length:")
            self._whole = end + 4 + int(length.split(b"\r\n")[0])
            self._closes = b"connection: close" in head
            self._status = head[9:12].decode()
        if len(self._buffer) >= self._whole:
            Client.times.append(time.perf_counter() - self._asked)
            Client.statuses[self._status] += 1
            if not self._closes:
                self._ask()

    def connection_lost(self, _: Exception | None) -> None:
        """Connect anew where the server ends the connection with its answer."""
        if not self.done.done():
            self.done.set_result(None)


async def connect(port: int) -> None:
    """Be one client until nothing is left to ask."""
    while Client.left > 0:
        _, client = await asyncio.get_running_loop().create_connection(lambda: Client(port), "127.0.0.1", port)
        await client.done


async def main(port: int, clients: int) -> float:
    """Run all clients; return for how many seconds."""
    started = time.perf_counter()
    await asyncio.gather(*(connect(port) for _ in range(clients)))
    return time.perf_counter() - started


if __name__ == "__main__":
    Client.left, Client.request = int(sys.argv[3]), sys.stdin.buffer.read()
    seconds = asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
    ordered = sorted(Client.times)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "p50": ordered[len(ordered) // 2] * 1000,
                "p99": ordered[int(len(ordered) * 0.99)] * 1000,
                "statuses": Client.statuses,
            }
        )
    )
