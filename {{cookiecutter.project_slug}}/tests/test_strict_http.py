"""What the stricter h11 connection refuses, however the bytes are cut into pieces."""

import itertools

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from {{ cookiecutter.package_name }}.strict_http import MAX_HEAD_BYTES, StrictConnection

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
]


def read(data: bytes, cuts: list[int]) -> bytes:
    """Feed `data` in pieces, and return the body of the request in it."""
    connection, body = StrictConnection(), b""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        if start == end:
            continue
        connection.receive_data(data[start:end])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            body += event.data if isinstance(event, h11.Data) else b""
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
    raise AssertionError("the request did not end")


@pytest.mark.parametrize("data", range(len(GOOD)))
@settings(max_examples=300)
@given(cuts=st.lists(st.integers(0, 1000), max_size=9))
def test_a_good_request_is_read_however_it_arrives(data: int, cuts: list[int]) -> None:
    assert read(GOOD[data][0], cuts) == GOOD[data][1]


@pytest.mark.parametrize("data", range(len(BAD)))
@given(cuts=st.lists(st.integers(0, 20_000), max_size=6))
def test_a_bad_request_is_refused_however_it_arrives(data: int, cuts: list[int]) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read(BAD[data], cuts)


def test_a_pipelined_request_is_judged_too() -> None:
    connection = StrictConnection()
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost: a\n\n")
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.start_next_cycle()
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()


def test_small_chunks_are_fine_as_long_as_there_are_not_many() -> None:
    assert read(CHUNKED + b"1\r\na\r\n" * 900 + b"0\r\n\r\n", []) == b"a" * 900
    assert len(read(CHUNKED + (b"200\r\n" + b"a" * 512 + b"\r\n") * 3000 + b"0\r\n\r\n", [])) == 512 * 3000
