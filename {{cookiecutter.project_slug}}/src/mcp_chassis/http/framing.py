"""HTTP/1.1 that every reader reads alike: what httptools lets pass, and what a proxy in front may read in another way.

Nothing reaches httptools that has not been judged here, and of a pipelined request nothing before the one in front of
it has been answered.
"""

import re

MAX_HEAD_BYTES = 16_384
_MAX_HEADERS = 100
# A chunk costs us the same whatever it holds: in the long run it has to hold something.
_FREE_CHUNKS = 1000
_BYTES_A_CHUNK = 256

# A path, and nothing that names a second host: no absolute URL, no `host:port` (RFC 9112, section 3.2), no fragment.
_REQUEST_LINE = re.compile(rb"(?!CONNECT )[A-Z-]+ /[!\"$-~]* HTTP/1\.[01]\r\n")
_DECISIVE = re.compile(rb"\n(host|content-length|transfer-encoding|expect|upgrade):([^\r]*)", re.IGNORECASE)
# What a host and its port are made of (RFC 3986, section 3.2); which hosts are served is judged by a layer.
_HOST = re.compile(rb"[A-Za-z0-9._~%-]+(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_SIZE_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,15}\r?")
_TOO_LARGE = f"Send at most {_MAX_HEADERS} headers, and {MAX_HEAD_BYTES} bytes of them."
_NO_PATH = "Send a request line such as `POST /mcp HTTP/1.1`: the path of the URL, and nothing else of it."
_LINES = "End every line with a carriage return and a line feed."
_CHUNKS = "Send chunks without extensions and trailers, and not too many small ones."


class BadRequest(ValueError):
    """What arrived is refused. The message is a sentence for the client."""


class RequestReader:
    """Cuts what one connection receives into requests.

    Refuses, with `BadRequest`, what RFC 9112 allows a server to refuse: a bare line feed or carriage return (section
    2.2), more than one length or `Host` (6.3, 3.2), chunk extensions and trailers (7.1), tiny chunks without end, and
    heads beyond the limits. Folded lines, white space in names and other broken characters httptools refuses.
    """

    def __init__(self) -> None:
        self.waiting = b""
        """What has arrived and was not taken yet."""
        self.ended = True
        """Whether the last request has been taken to its end."""
        self.expects = False
        """Whether it waits for leave to send its body, which after a refusal may come or not (RFC 9110, 10.1.1)."""
        self._chunked = False
        self._left = 0  # bytes of the body, or of the chunk and the end of its line
        self._chunks = self._chunk_bytes = 0

    def take(self) -> bytes:
        """Return the next part of a request, as much as can be judged; nothing if more has to arrive first."""
        if self.ended:
            return self._take_head()
        return self._take(self._left) if self._left else self._take_chunk_size()

    def _take(self, size: int) -> bytes:
        part, self.waiting = self.waiting[:size], self.waiting[size:]
        self._left = size - len(part)
        self.ended = not (self._left or self._chunked)
        return part

    def _take_head(self) -> bytes:
        end = self.waiting.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) + 4
        if end < 4:
            _judge_beginning(self.waiting)
            return b""
        head = self.waiting[:end]
        fields = _judge(head)
        if b" \r\n" in head or b"\t\r\n" in head or b"upgrade" in fields:
            # httptools takes the space for a part of the value, and may take the body for another protocol.
            lines = [line.rstrip(b" \t") for line in head.split(b"\r\n") if not line.lower().startswith(b"upgrade:")]
            head = b"\r\n".join(lines)
            self.waiting = head + self.waiting[end:]
        self.expects = b"expect" in fields
        self._chunked = b"transfer-encoding" in fields
        self._chunks = self._chunk_bytes = 0
        return self._take(len(head) + int(fields.get(b"content-length", 0)))

    def _take_chunk_size(self) -> bytes:
        match = _CHUNK_SIZE.match(self.waiting)
        if match is None:
            if _CHUNK_SIZE_SO_FAR.fullmatch(self.waiting[:17]):
                return b""
            raise BadRequest(_CHUNKS)
        end, size = match.end(), int(match[1], 16)
        if size == 0:
            last = self.waiting[end : end + 2]
            if last == b"\r\n":
                self._chunked = False
                return self._take(end + 2)
            if last in {b"", b"\r"}:
                return b""
            raise BadRequest(_CHUNKS)
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._chunk_bytes // _BYTES_A_CHUNK:
            raise BadRequest(_CHUNKS)
        self._chunk_bytes += size
        return self._take(end + size + 2)


def _judge_beginning(data: bytes) -> None:
    """Refuse early what cannot become a head any more."""
    if len(data) > MAX_HEAD_BYTES:
        raise BadRequest(_TOO_LARGE)
    if data and not b"A" <= data[:1] <= b"Z":
        raise BadRequest(_NO_PATH)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest(_LINES)


def _judge(head: bytes) -> dict[bytes, bytes]:
    """Return the fields of a head that decide where the request ends, lower-case names, or raise `BadRequest`."""
    lines = head.count(b"\r\n")
    if lines > _MAX_HEADERS + 2:
        raise BadRequest(_TOO_LARGE)
    if not _REQUEST_LINE.match(head):
        raise BadRequest(_NO_PATH)
    if not head.count(b"\n") == head.count(b"\r") == lines:
        raise BadRequest(_LINES)
    found = _DECISIVE.findall(head)
    fields = {name.lower(): value.strip(b" \t") for name, value in found}
    if len(fields) < len(found):
        raise BadRequest("Send Host, Content-Length, Transfer-Encoding, Expect and Upgrade at most once.")
    if not _HOST.fullmatch(fields.get(b"host", b"")):
        raise BadRequest("The Host header is not a host name with an optional port.")
    if b"transfer-encoding" in fields:
        if b"content-length" in fields:
            raise BadRequest("Send Content-Length or Transfer-Encoding, not both.")
        if fields[b"transfer-encoding"].lower() != b"chunked":
            raise BadRequest("Send the body as it is or in chunks, in no other Transfer-Encoding.")
    length = fields.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 19:
        raise BadRequest("Content-Length is not a number of bytes.")
    return fields
