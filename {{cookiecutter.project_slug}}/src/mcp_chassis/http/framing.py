"""HTTP/1.1 that every parser interprets alike: a request that two of them could interpret differently is refused.

httptools gets exactly the bytes that were checked here, less `Upgrade` lines and white space behind values, and
nothing of a pipelined request before the previous one has been answered. `test_http_differential.py` of the template
compares this reader, httptools and h11.
"""

import re

MAX_HEAD_BYTES = 16_384
_MAX_HEADERS = 100
# A chunk costs the same whatever its size. So beyond the first thousand, chunks need this size on average.
_FREE_CHUNKS = 1000
_MIN_CHUNK_BYTES = 256

# A path, and nothing that names a second host: no absolute URL, no `host:port` (RFC 9112, section 3.2), no fragment.
# No characters outside RFC 3986 either: a proxy may escape some of them, and read `\` as `/`.
_PATH = rb"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*+(?:%[0-9A-Fa-f]{2}[A-Za-z0-9._~!$&'()*+,;=:@/-]*+)*+"
_REQUEST_LINE = re.compile(rb"(?!CONNECT )([A-Z-]+) " + _PATH + rb"(?:\?[!\"$-~]*)? HTTP/1\.([01])\r\n")
# Every line to the end of the head (RFC 9110, sections 5.1 and 5.5). White space at the beginning of a line would fold
# it, or, on a line of its own, end the head for some parsers.
_FIELDS = re.compile(rb"(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+:[\t -~\x80-\xff]*\r\n)*\r\n")
# White space other than one leading space stays in the value, which is then refused: parsers strip more or less of it.
_DECISIVE = re.compile(rb"\n(host|content-length|transfer-encoding|expect|upgrade): ?([^\r]*)", re.IGNORECASE)
# Characters of a host and its port (RFC 3986, section 3.2). `HostAndOriginLayer` decides which hosts are served.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[1-9][0-9]*)?")
# Without a leading zero, which some parsers read as octal, and within the integers that a proxy may use.
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
# The end of the body, or the size of a further chunk.
_CHUNK = re.compile(rb"(0{1,15}\r\n\r\n)|(?!0+\r)([0-9A-Fa-f]{1,15})\r\n")
_CHUNK_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,15}\r?|0{1,15}\r\n\r?")
# A body has no meaning with these, so some parsers expect none (RFC 9110, sections 9.3.1, 9.3.2 and 9.3.5).
_WITHOUT_BODY = frozenset({b"GET", b"HEAD", b"DELETE"})
_TOO_LARGE = f"Send at most {_MAX_HEADERS} headers, and {MAX_HEAD_BYTES} bytes of them."
_NO_PATH = "Send a request line such as `POST /mcp HTTP/1.1`: the path of the URL, and nothing else of it."
_LINES = "Send each header as `Name: value`, on one line without control characters that ends with CR LF."
_CHUNKS = "Send chunks without extensions and trailers, and not too many small ones."


class BadRequest(ValueError):
    """A request is refused. The message is a sentence for the client."""


class RequestReader:
    """Divides what one connection receives into requests.

    Refuses, with `BadRequest`, what RFC 9112 allows a server to refuse: a bare line feed or carriage return (section
    2.2), folded lines (5.2), more than one length or `Host` (6.3, 3.2), chunk extensions and trailers (7.1), many tiny
    chunks, and heads beyond the limits.
    """

    def __init__(self) -> None:
        self.waiting = b""
        """Bytes that have arrived and are not taken yet."""
        self.ended = True
        """Whether the last request has been taken to its end."""
        self.expects = False
        """Whether the request has `Expect`: after a refusal its body may come or not (RFC 9110, section 10.1.1)."""
        # Each head sets these before they are read.
        self._chunked: bool
        self._left: int  # bytes of the body, or of the chunk and the end of its line
        self._chunks: int
        self._chunk_bytes: int

    def take(self) -> bytes:
        """Return the next part of a request, as much as can be checked; nothing if more has to arrive first."""
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
            _check_beginning(self.waiting)
            return b""
        head = self.waiting[:end]
        fields = _check(head)
        if b"upgrade" in fields or b" \r\n" in head or b"\t\r\n" in head:
            # httptools would read the body as another protocol, and keep the white space.
            lines = [line.rstrip(b" \t") for line in head.split(b"\r\n") if line[:8].lower() != b"upgrade:"]
            head = b"\r\n".join(lines)
            self.waiting = head + self.waiting[end:]
        self.expects = b"expect" in fields
        self._chunked = b"transfer-encoding" in fields
        self._chunks = self._chunk_bytes = 0
        return self._take(len(head) + int(fields.get(b"content-length", 0)))

    def _take_chunk_size(self) -> bytes:
        match = _CHUNK.match(self.waiting)
        if match is None:
            if _CHUNK_SO_FAR.fullmatch(self.waiting):
                return b""
            raise BadRequest(_CHUNKS)
        if match[1]:
            self._chunked = False
            return self._take(match.end())
        size = int(match[2], 16)
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._chunk_bytes // _MIN_CHUNK_BYTES:
            raise BadRequest(_CHUNKS)
        self._chunk_bytes += size
        return self._take(match.end() + size + 2)


def _check_beginning(data: bytes) -> None:
    """Refuse what cannot become a head any more."""
    if len(data) >= MAX_HEAD_BYTES:
        raise BadRequest(_TOO_LARGE)
    if data and not b"A" <= data[:1] <= b"Z":
        raise BadRequest(_NO_PATH)
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadRequest(_LINES)


def _check(head: bytes) -> dict[bytes, bytes]:
    """Return the fields of a head that decide where the request ends, lower-case names, or raise `BadRequest`."""
    if head.count(b"\r\n") > _MAX_HEADERS + 2:
        raise BadRequest(_TOO_LARGE)
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadRequest(_NO_PATH)
    if not _FIELDS.fullmatch(head, line.end()):
        raise BadRequest(_LINES)
    found = _DECISIVE.findall(head)
    fields = {name.lower(): value for name, value in found}
    if len(fields) < len(found):
        raise BadRequest("Send Host, Content-Length, Transfer-Encoding, Expect and Upgrade at most once.")
    if not _HOST.fullmatch(fields.get(b"host", b"")):
        raise BadRequest("The Host header is not a host name with an optional port.")
    is_chunked, is_old = b"transfer-encoding" in fields, line[2] == b"0"
    if is_chunked:
        if b"content-length" in fields:
            raise BadRequest("Send Content-Length or Transfer-Encoding, not both.")
        if fields[b"transfer-encoding"].lower() != b"chunked" or is_old:  # RFC 9112, section 6.1
            raise BadRequest("Send the body as it is or in chunks, in no other Transfer-Encoding.")
    length = fields.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length):
        raise BadRequest("Content-Length is not a number of bytes.")
    has_body = is_chunked or length != b"0"
    if has_body and line[1] in _WITHOUT_BODY:
        raise BadRequest(f"Send no body with {line[1].decode()}.")
    if b"expect" in fields and (fields[b"expect"].lower() != b"100-continue" or is_old or not has_body):
        raise BadRequest("Send `Expect: 100-continue`, with HTTP/1.1 and a body, or no Expect.")
    return fields
