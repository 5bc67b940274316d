"""Our reader, httptools and, as a third opinion, h11 read the same requests in the same bytes, whatever is in them."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_chassis.http.framing import BadRequest, RequestReader

HEAD = b"Host: a\r\nX:\tb c\r\n"
SEEDS = [
    b"GET /a?b HTTP/1.1\r\n" + HEAD + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + HEAD + b"Content-Length: 11\r\n\r\nX: y\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n\r\n\r\n \r\n6\r\nabcdef\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\nUpgrade: h2c\r\n" + HEAD + b"Connection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\n" + HEAD + b"content-length:3\r\n\r\nabc",
    b"POST /a HTTP/1.0\r\nConnection: close\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc",
]
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
CHARACTERS = [bytes([code]) for code in (*range(33), *b"\"#'()+,-./0:;<=>@[\\]_{}", 127, 128, 133, 160, 255)]
LINES = [
    *(b"\r\n", b" \r\n", b"\t\r\n", b" \t \r\n", b"\r\n ", b"\r\n\t", b"\r\n \r\n", b"\r\n\r\n", b"\n\n", b"\n\r"),
    *(b"\r\r\n", b" \n", b"\t\n", b"\n ", b"\x0b\r\n", b"\x0c\r\n", b"\x00\r\n", b"\x85\r\n", b":\r\n", b"a\r\n"),
    *(b"a :\r\n", b" a: b\r\n", b"Host: b\r\n", b"Trailer: a\r\n", b"Expect: 100-continue\r\n", b"Expect: x\r\n"),
    *(b"Content-Length:%b\r\n" % value for value in (b"", b" 2", b" +3", b" 03", b" 0x3", b" 3,3", b" 3 3", b" 3_3")),
    *(b"Transfer-Encoding:%b\r\n" % value for value in (b" chunked", b" CHUNKED\t", b"\r\n chunked", b"\x0bchunked")),
    *(b"Transfer-Encoding: %b\r\n" % value for value in (b"x", b"identity", b"chunked, chunked", b"chunked;a", b"")),
    *(b"Connection: %b\r\n" % value for value in (b"close", b"close, keep-alive ", b"upgrade\r\nUpgrade: websocket")),
]


class Request(NamedTuple):
    """What a reader sees in one request."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Httptools:
    """Receives what httptools reads on a connection, as uvicorn does."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.heads = 0
        self.closes = self.is_closing = False
        self.requests: list[Request] = []

    def on_message_begin(self) -> None:
        self.target, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.closes = not self.parser.should_keep_alive()
        url = httptools.parse_url(self.target)
        assert url.path + (b"?" + url.query if url.query else b"") == self.target.removesuffix(b"?")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_closing = self.closes  # uvicorn closes the connection after the answer
        self.requests.append(Request(self.parser.get_method(), self.target, self.headers, self.body))


def read(data: bytes) -> tuple[list[Request], list[int]]:
    """Return the requests that are served and where each ends. Our reader and httptools have to agree at every part."""
    reader, other = RequestReader(), Httptools()
    reader.waiting = data
    begun, ends = 0, []
    try:
        while True:
            begun += reader.ended
            if other.is_closing or not (part := reader.take()):
                break
            other.parser.feed_data(part)
            assert other.heads == begun, "httptools has begun another number of requests"
            assert len(other.requests) == begun - (not reader.ended), "httptools is not at the same end"
            if reader.ended:
                ends.append(len(data) - len(reader.waiting))
    except (BadRequest, httptools.HttpParserError):
        assert other.heads <= begun, "a request that was not judged has been begun"
    return other.requests, ends


def read_by_h11(data: bytes) -> Iterator[tuple[Request, int]]:
    """Yield the requests that h11 reads and where each ends, until one is incomplete. What it refuses is an error."""
    end = 0
    while end < len(data):
        connection, head, body = h11.Connection(h11.SERVER), None, b""
        connection.receive_data(data[end:])
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                return
        assert head is not None
        end = len(data) - len(connection.trailing_data[0])
        headers = [(name, value) for name, value in head.headers if name != b"upgrade"]  # our reader drops it
        yield Request(head.method, head.target, headers, body), end


def check(data: bytes) -> int:
    """Compare the readers, and return how many requests would be served."""
    requests, ends = read(data)
    # h11 writes this value in lower case.
    requests = [
        request._replace(
            headers=[
                (name, value.lower() if name == b"transfer-encoding" else value) for name, value in request.headers
            ]
        )
        for request in requests
    ]
    other = list(itertools.islice(read_by_h11(data), len(requests)))
    assert list(zip(requests, ends, strict=True)) == other, "h11 reads something else"
    return len(requests)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_character_anywhere_makes_parsers_disagree(seed: bytes) -> None:
    served = check(seed + NEXT)
    assert served == (1 if b"close" in seed else 2)
    for position, text in itertools.product(range(len(seed) + 1), CHARACTERS):
        for replaced in (0, 1):
            served += check(seed[:position] + text + seed[position + replaced :] + NEXT)
    assert served > len(seed), "nearly everything is refused, so there was nothing to compare"


@pytest.mark.parametrize("seed", SEEDS)
def test_no_line_anywhere_makes_parsers_disagree(seed: bytes) -> None:
    for position, text in itertools.product(range(len(seed) + 1), LINES):
        check(seed[:position] + text + seed[position:] + NEXT)


EDITS = st.tuples(st.integers(0, 200), st.sampled_from([*LINES, *CHARACTERS, b""]), st.integers(0, 2))


@settings(max_examples=500, deadline=None)
@given(seed=st.sampled_from(SEEDS), edits=st.lists(EDITS, max_size=4))
def test_no_mixture_makes_parsers_disagree(seed: bytes, edits: list[tuple[int, bytes, int]]) -> None:
    data = seed + NEXT
    for position, text, removed in edits:
        data = data[:position] + text + data[position + removed :]
    check(data)
