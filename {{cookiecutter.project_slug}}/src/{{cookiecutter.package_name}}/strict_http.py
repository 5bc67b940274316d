"""HTTP/1.1 that every reader reads alike: what h11 lets pass, and what a proxy in front may read in another way."""

import h11

MAX_HEAD_BYTES = 16_384
_MAX_HEADERS = 100
# A chunk costs us the same whatever it holds: in the long run it has to hold something.
_FREE_CHUNKS = 1000
_BYTES_A_CHUNK = 256


class StrictConnection(h11.Connection):
    """An h11 connection of a server that refuses, with `RemoteProtocolError`, what RFC 9112 allows a server to refuse.

    A bare line feed for a line end (section 2.2), folded lines (5.2), more than one length (6.3), chunk extensions and
    trailers (7.1), tiny chunks without end, and heads beyond the limits also where they arrive in one piece.
    """

    _chunked = False  # the body being received
    _between_chunks = False
    _chunks = 0
    _body_bytes = 0

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event, as h11 does."""
        if self.their_state is h11.IDLE:
            _check_head(self.trailing_data[0])
        elif self._between_chunks and self.their_state is h11.SEND_BODY:
            # h11 takes a whole size at once, perhaps before there is anything of the chunk.
            self._between_chunks = not _check_chunk_head(self.trailing_data[0])
        event = super().next_event()
        if type(event) is h11.Request:
            self._chunked = self._between_chunks = any(name == b"transfer-encoding" for name, _ in event.headers)
            self._chunks = self._body_bytes = 0
        elif self._chunked and type(event) is h11.Data:
            self._count(event)
        elif type(event) is h11.EndOfMessage and event.headers:
            raise h11.RemoteProtocolError("the body has trailers")
        return event

    def _count(self, data: h11.Data) -> None:
        self._between_chunks = data.chunk_end
        self._chunks += data.chunk_start
        self._body_bytes += len(data.data)
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _BYTES_A_CHUNK:
            raise h11.RemoteProtocolError("the chunks are too small")


def _check_head(data: bytes) -> None:
    """Judge the head at the beginning of `data`, or as much of it as is there."""
    end = data.find(b"\n\r\n")
    head = data if end < 0 else data[: end + 1]
    lines = head.count(b"\n")
    if len(head) > MAX_HEAD_BYTES or lines > _MAX_HEADERS + 1:
        raise h11.RemoteProtocolError("the head is too large")
    if lines != head.count(b"\r\n"):
        raise h11.RemoteProtocolError("a line ends without a carriage return")
    if b"\n " in head or b"\n\t" in head:
        raise h11.RemoteProtocolError("a line is folded")
    lengths = head.lower().split(b"\ncontent-length:")[1:]
    if len(lengths) > 1 or any(b"," in length.partition(b"\r")[0] for length in lengths):
        raise h11.RemoteProtocolError("more than one Content-Length")


def _check_chunk_head(data: bytes) -> bool:
    """Judge the line with the size of a chunk, and say whether it is there as a whole."""
    line, end, _ = data[:64].lstrip(b"\r\n").partition(b"\r\n")
    if b";" in line or b" " in line or b"\t" in line:
        raise h11.RemoteProtocolError("a chunk has an extension")
    return bool(end)
