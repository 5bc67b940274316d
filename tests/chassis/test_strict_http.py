"""What is refused before httptools sees it, and what httptools refuses, however the bytes are cut into pieces."""

import itertools

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_chassis.http.framing import MAX_HEAD_BYTES, BadRequest, RequestReader

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = [
    (HEAD + b"Content-Length: 4\r\n\r\n\n \n;", b"\n \n;"),
    (CHUNKED + b"3\r\n;\na\r\n2\r\n\r\n\r\n0\r\n\r\n", b";\na\r\n"),
    (CHUNKED + b"0\r\n\r\n", b""),
    (HEAD + b"X: content-length: 5, 6\r\nContent-Length: 0\r\n\r\n", b""),
]
BAD = [
    HEAD.replace(b"\r\n", b"\n") + b"\r\n",
    HEAD + b"X: a\r\n b\r\n\r\n",
    HEAD + b"Content-Length: 1\r\ncontent-length: 1\r\n\r\na",
    HEAD + b"Content-Length: 1,1\r\n\r\na",
    HEAD + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
    HEAD + b"a:\r\n" * 100 + b"\r\n",
    CHUNKED + b"1;a\r\nb\r\n0\r\n\r\n",
    CHUNKED + b"1\r\nb\r\n0;a\r\n\r\n",
    CHUNKED + b"1\r\nb\r\n0\r\nX: a\r\n\r\n",
    CHUNKED + b"1\r\na\r\n" * 1100 + b"0\r\n\r\n",
    CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    HEAD.replace(b" / ", b" http://a/ ") + b"\r\n",
    HEAD.replace(b" / ", b" /#a ") + b"\r\n",
    HEAD.replace(b"1.1", b"2.0") + b"\r\n",
    HEAD + b"X: a\rb\r\n\r\n",
    HEAD + b"X : a\r\n\r\n",
    HEAD + b"X\x00: a\r\n\r\n",
    HEAD + b"Host: a\r\n\r\n",
    HEAD.replace(b": a", b": a/b") + b"\r\n",
    HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    HEAD + b"Content-Length: +1\r\n\r\na",
    b"POST / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
]


class Request:
    """What httptools makes of a request."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.ended = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended = True


def read(data: bytes, cuts: list[int]) -> Request:
    """Feed `data` in pieces, and return the request in it."""
    reader, request = RequestReader(), Request()
    parser = httptools.HttpRequestParser(request)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        reader.waiting += data[start:end]
        while not request.ended and (part := reader.take()):
            parser.feed_data(part)
            assert reader.ended == request.ended, "two readings of one request"
    assert request.ended, "the request did not end"
    return request


@pytest.mark.parametrize("data", range(len(GOOD)))
@settings(max_examples=300, deadline=None)
@given(cuts=st.lists(st.integers(0, 1000), max_size=9))
def test_a_good_request_is_read_however_it_arrives(data: int, cuts: list[int]) -> None:
    assert read(GOOD[data][0], cuts).body == GOOD[data][1]


@pytest.mark.parametrize("data", range(len(BAD)))
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 20_000), max_size=6))
def test_a_bad_request_is_refused_however_it_arrives(data: int, cuts: list[int]) -> None:
    with pytest.raises((BadRequest, httptools.HttpParserError)):
        read(BAD[data], cuts)


def test_what_follows_a_request_waits_and_is_judged_too() -> None:
    reader = RequestReader()
    reader.waiting = HEAD + b"Content-Length: 1\r\n\r\naGET / HTTP/1.1\nHost: a\n\n"
    assert reader.take() == HEAD + b"Content-Length: 1\r\n\r\na"
    assert reader.ended
    with pytest.raises(BadRequest):
        reader.take()


NO_HEADERS = [
    *(b" \r\n", b"\t\r\n", b" a: b\r\n", b"a\r\n", b":\r\n", b"a : b\r\n", b"a b: c\r\n", b"\x80: a\r\n"),
    *(b"a\x00: b\r\n", b"a: b\n", b"\n", b"a: b\r\r\n", b"a: \rb\r\n", b"a: \x00\r\n", b"a: \x0b\r\n", b"a: \x7f\r\n"),
]


@pytest.mark.parametrize("line", NO_HEADERS)
def test_a_line_that_is_no_header_is_refused_before_httptools_sees_it(line: bytes) -> None:
    reader = RequestReader()
    reader.waiting = HEAD + line + b"a: b\r\n\r\n"
    with pytest.raises(BadRequest):
        reader.take()


def test_chunks_are_counted_for_each_request() -> None:
    reader = RequestReader()
    for _ in range(3):
        reader.waiting = CHUNKED + b"1\r\na\r\n" * 900 + b"0\r\n\r\n"
        while reader.take():
            pass
        assert (reader.ended, reader.waiting) == (True, b"")


@pytest.mark.parametrize(("first_size", "most"), [(1, 1003), (24_502, 1100), (24_756, 1100)])
def test_a_body_has_at_most_1000_chunks_and_one_more_for_every_256_bytes(first_size: int, most: int) -> None:
    """The bytes before the last chunk count: 1002 bytes allow 3 more chunks, 25,600 and 25,855 bytes allow 100."""
    reader = RequestReader()
    reader.waiting = CHUNKED + b"%x\r\n%b\r\n" % (first_size, b"a" * first_size)
    while reader.take():
        pass
    for _ in range(most - 1):
        reader.waiting = b"1\r\na\r\n"
        assert reader.take() == b"1\r\na\r\n"
    reader.waiting = b"1\r\na\r\n"
    with pytest.raises(BadRequest, match="not too many small ones"):
        reader.take()


def test_small_chunks_are_fine_as_long_as_there_are_not_many() -> None:
    assert read(CHUNKED + b"1\r\na\r\n" * 900 + b"0\r\n\r\n", []).body == b"a" * 900
    assert len(read(CHUNKED + (b"200\r\n" + b"a" * 512 + b"\r\n") * 3000 + b"0\r\n\r\n", []).body) == 512 * 3000


def test_a_new_connection_expects_nothing() -> None:
    """After a refusal with `Expect` the connection ends otherwise: none may be assumed before the first head."""
    reader = RequestReader()
    assert not reader.expects
    reader.waiting = HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\na" + HEAD + b"\r\n"
    seen = []
    while reader.take():
        seen.append(reader.expects)
    assert seen == [True, False]


def test_a_method_may_begin_with_every_capital_letter_and_nothing_else() -> None:
    for first in range(256):
        reader = RequestReader()
        reader.waiting = bytes([first]) + b"Z"
        if chr(first) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
            assert reader.take() == b""
        else:
            with pytest.raises(BadRequest, match="request line"):
                reader.take()


def test_the_message_names_the_method_that_has_no_body() -> None:
    reader = RequestReader()
    reader.waiting = HEAD.replace(b"POST", b"DELETE") + b"Content-Length: 1\r\n\r\na"
    with pytest.raises(BadRequest, match=r"^Send no body with DELETE\.$"):
        reader.take()


def head_of(size: int) -> bytes:
    return HEAD + b"X: " + b"a" * (size - len(HEAD) - 7) + b"\r\n\r\n"


def test_a_head_has_at_most_16384_bytes() -> None:
    reader = RequestReader()
    for size in (16_383, 16_384):
        reader.waiting = head_of(size)
        assert len(reader.take()) == size
    reader.waiting = head_of(16_385)
    with pytest.raises(BadRequest, match="16384 bytes"):
        reader.take()


def test_an_unfinished_head_is_refused_as_soon_as_it_is_too_large() -> None:
    reader = RequestReader()
    reader.waiting = head_of(16_384)[:-1]
    assert reader.take() == b""
    reader.waiting = head_of(16_385)[:-1]
    with pytest.raises(BadRequest, match="16384 bytes"):
        reader.take()


def test_a_head_has_at_most_100_headers() -> None:
    reader = RequestReader()
    reader.waiting = HEAD + b"a: b\r\n" * 99 + b"\r\n"
    assert reader.take()
    reader.waiting = HEAD + b"a: b\r\n" * 100 + b"\r\n"
    with pytest.raises(BadRequest, match="at most 100 headers"):
        reader.take()


@pytest.mark.parametrize("end", [b"f" * 15, b"f" * 15 + b"\r", b"0" * 15, b"0" * 15 + b"\r\n", b"0" * 15 + b"\r\n\r"])
def test_a_chunk_size_is_refused_at_the_first_byte_that_cannot_belong_to_it(end: bytes) -> None:
    reader = RequestReader()
    reader.waiting = CHUNKED
    reader.take()
    reader.waiting = end
    assert reader.take() == b"", "the rest may follow"
    reader.waiting += b"x"
    with pytest.raises(BadRequest, match="chunks"):
        reader.take()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("length", [b"0", b"1"])
@pytest.mark.parametrize("expectation", [b"100-continue", b"100-Continue", b"100-continue,x", b"x", b""])
def test_expect_is_accepted_only_as_100_continue_with_http_1_1_and_a_body(
    version: bytes, length: bytes, expectation: bytes
) -> None:
    reader = RequestReader()
    head = HEAD.replace(b"1.1", version) + b"Content-Length: %b\r\nExpect: %b\r\n\r\n" % (length, expectation)
    reader.waiting = head
    if (version, length, expectation.lower()) == (b"1.1", b"1", b"100-continue"):
        assert reader.take() == head
    else:
        with pytest.raises(BadRequest, match="Expect: 100-continue"):
            reader.take()
