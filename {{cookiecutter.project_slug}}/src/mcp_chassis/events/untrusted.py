"""The one way of untrusted text to an output: a log line, an event, the audit trail, a metric's label or a span.

The secrets of the process are known here, so that results of calls are kept free of them as well (`without_secrets`).
Three functions for outputs, the strictest first:

- `named` for names: declared ones as they are, others as their length and a digest.
- `shown` for text that an operator has to see (an unknown path, a refused Host): redacted, then cleaned, then cut.
- `redact` for whole lines of output: removes secrets of the process, and pieces of them.

Values of arguments are not written at all.
"""

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Container, Iterable, Iterator
from itertools import chain
from urllib.parse import quote, quote_plus, unquote_to_bytes

from ..http.current_request import current_request
from ..sinks.hidden import escape_hidden

REDACTED = "[redacted]"
MAX_TEXT = 200  # characters
_PIECE = 8  # characters: a shorter piece of a secret is of no use, and may be a word
_SHORTEST = 7  # characters of a secret that is looked for: a shorter one is a part of ordinary words
_MAX_ENCODINGS = 3  # times that percent-escapes are undone
# API keys and JWTs, whole or cut: nothing else looks like them.
_TOKENS = re.compile(r"mcp_(?:[0-9a-z]{10}_[0-9A-Za-z]{8,}|[\w-]{43})|eyJ[\w-]{8,}(?:\.[\w-]*){0,2}")
_ONE_BASE64 = bytes.maketrans(b"-_", b"+/")
_DIGEST_KEY = os.urandom(16)  # of this process, so that short names cannot be found by trying

# The characters of tokens, those that texts hold most often first. All others count as rarer.
_BY_FREQUENCY = b"".join(
    (b"etaoinsrhldcu", b"mpfgwybv", b"0125k34-679_8", b"xASTCEIMPRDN", b"LBOFHGWUKJYV", b"qjzQXZ=")
)

_secrets: set[str] = set()  # each in every form in which it can stand in a line
_folded: tuple[tuple[bytes, bytes], ...] = ()  # the same, each as `_fold` makes it, behind its `rarest` byte
_joined: tuple[tuple[bytes, bytes], ...] = ()  # each in hex and base64, as `_join` makes it, behind that
_pieces: frozenset[str] = frozenset()  # of the secrets
_blocks: set[int] = set()  # all four bytes that follow one another in a secret
_declared: set[str] = set()
_OWN_WORDS = frozenset({"missing", "unknown", "host", "origin", "wrong_credentials"})  # of the commonest events


def add_secrets(secrets: Iterable[str]) -> None:
    """Keep `secrets` of 7 characters or more out of every output of this process, also pieces of 8 or more."""
    global _pieces, _folded, _joined  # noqa: PLW0603  (secrets are the process's, whatever writes a line)
    coded = set[str]()
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            _secrets.update((secret, quote(secret, safe=""), quote_plus(secret)))
            _secrets.update(json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False))
            coded.update(_in_hex_and_base64(secret.encode()))
    _folded = tuple((rarest(form), form) for form in {_fold(form.encode()) for form in _secrets})
    joined = {*(form for _, form in _joined), *(_join(form.encode()) for form in coded)}
    _joined = tuple((rarest(form), form) for form in joined)
    _pieces = frozenset(form[i : i + _PIECE] for form in _secrets for i in range(len(form) - _PIECE + 1))
    _blocks.update(*(_windows(secret.encode(), 4) for secret in _secrets))


def declare(names: Iterable[str]) -> None:
    """Let `names` be written: what this server calls its tools, their arguments, its resources and prompts."""
    _declared.update(names)


def named(name: object) -> str:
    """Return `name` if it was declared, else its length and a digest."""
    text = str(name)
    if text in _declared:
        return text
    digest = hashlib.blake2s(text.encode(errors="surrogatepass"), key=_DIGEST_KEY, digest_size=4).hexdigest()
    return f"(unknown: {len(text)} characters, {digest})"


def shown(text: str, limit: int = MAX_TEXT) -> str:
    """Return text from a client without secrets, without control characters, and not longer than `limit`.

    Secrets are those of the process and the credentials of the request being served, also behind percent-escapes.
    """
    if text in _OWN_WORDS or text in _declared:
        return text
    text = text[: 4 * limit]  # bounds the work; what a secret loses to this cut is found by its pieces
    request = current_request.get()
    presented = request.credentials() if request is not None else b""
    plain = _fold(text.encode(errors="replace")).decode(errors="replace")
    if plain != text and _without(plain, presented) != plain:
        return REDACTED
    return escape_controls(_without(text, presented))[:limit]


def redact(text: str) -> str:
    """Return `text` without secrets of the process, pieces of them, and what looks like a key or a token."""
    data = text.encode(errors="replace")
    # Seven characters hold four bytes that begin at a multiple of four: a line costs 2 microseconds, not 30.
    if not _blocks.isdisjoint(_aligned(data, 4)):
        for secret in _secrets:
            text = text.replace(secret, REDACTED)
        text = _without_pieces(text, _pieces)
    return _TOKENS.sub(REDACTED, text) if "mcp_" in text or "eyJ" in text else text


def without_secrets(text: str, mark: str) -> str:
    """Return what is to be sent with `mark` for each secret of the process that is plain, or escaped for JSON or a URL.

    `mark` is all that is left of a text which holds one with other escapes, or in base64 or hex, also with white space
    or colons in it. Pieces of a secret are not looked for: they may be words of a result.
    """
    if not holds_secret(text.encode(errors="surrogatepass")):
        return text
    for form in sorted(_secrets, key=len, reverse=True):
        text = text.replace(form, mark)
    return mark if holds_secret(text.encode(errors="surrogatepass")) else text


def holds_secret(data: bytes) -> bool:
    """Whether a text in UTF-8 holds a secret of the process, in one of the forms of `without_secrets`."""
    folded = _fold(data)
    if any(rare in folded and form in folded for rare, form in _folded):
        return True
    candidates = [form for rare, form in _joined if rare in folded]
    joined = _join(folded) if candidates else b""
    return any(form in joined for form in candidates)


def rarest(form: bytes) -> bytes:
    """Return a byte of `form` that few texts hold: without it, none holds the form, and looking for that takes longer.

    It is never `+` or `/`, which `_join` may make of others. Empty if there is no other.
    """
    return max((form[i : i + 1] for i in range(len(form)) if form[i] not in b"+/"), key=_frequency, default=b"")


def _frequency(one: bytes) -> int:
    return _BY_FREQUENCY.find(one) % 256


def _fold(data: bytes) -> bytes:
    """Undo escapes of URLs, also several, and of JSON and programs below U+0100, and drop backslashes."""
    data = data.replace(b"\\u00", b"%").replace(b"\\x", b"%") if b"\\" in data else data
    for _ in range(_MAX_ENCODINGS if b"%" in data else 0):
        data = unquote_to_bytes(data)
    return data.translate(None, b"\\") if b"\\" in data else data


def _join(folded: bytes) -> bytes:
    """Drop what may stand between the lines of base64 or the bytes of hex. The letters are those of `\\n` and `\\r`."""
    return folded.translate(_ONE_BASE64, b" \t\r\n:nr")


def _in_hex_and_base64(plain: bytes) -> Iterator[str]:
    yield from (plain.hex(), plain.hex().upper())
    for before in range(3):  # bytes of other text that share the first characters with it
        coded = base64.b64encode(bytes(before) + plain).decode()
        yield coded[(0, 2, 3)[before] : (before + len(plain)) * 8 // 6]  # what the secret alone decides


def escape_controls(text: str) -> str:
    """Show control, format and line-separator characters as escapes, so that text stays on its line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in escape_hidden(text)
    )


def _without(text: str, presented: bytes) -> str:
    return redact(_without_pieces(text, _common_pieces(text, presented)) if presented else text)


def _common_pieces(text: str, presented: bytes) -> set[str]:
    """Return the pieces that are in both. As numbers, because a loop over 16 KB of headers would keep everyone."""
    data = text.encode("latin-1", errors="replace")
    if set(_windows(data, 4)).isdisjoint(_aligned(presented, 4)):  # which is so for almost every text
        return set()
    common = set(_windows(data, _PIECE)).intersection(_windows(presented, _PIECE))
    return {number.to_bytes(_PIECE, sys.byteorder).decode("latin-1") for number in common}


def _windows(data: bytes, size: int) -> Iterator[int]:
    """Return all that have `size` bytes, 4 or 8, as numbers."""
    return chain.from_iterable(_aligned(data[start:], size) for start in range(size))


def _aligned(data: bytes, size: int) -> "memoryview[int]":
    return memoryview(data)[: len(data) // size * size].cast("I" if size == 4 else "Q")


def _without_pieces(text: str, pieces: Container[str]) -> str:
    """Take every run that consists of `pieces`, each a character further, out of `text`, unless it is made of words.

    Every character is looked at once, because a client may choose the text and the pieces.
    """
    kept, start, index = [], 0, 0
    while index <= len(text) - _PIECE:
        first = index
        while text[index : index + _PIECE] in pieces:
            index += 1
        if index == first:
            index += 1
            continue
        end = index + _PIECE - 1
        piece = text[first:end]
        if piece.islower() and not any(map(str.isdigit, piece)):
            continue  # of a pass phrase, perhaps, and then a part of ordinary lines as well
        kept += [text[start:first], REDACTED]
        start = index = end
    return "".join([*kept, text[start:]])
