"""Credentials of other systems in what a tool returns, known by their published formats, and by their check sums.

Almost all of them stand in a run of 20 or more letters, digits, `_` and `-`, which one pass over the bytes finds: a
text of ordinary words costs little more. The time is linear in the length of the text, whatever it holds.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from string import ascii_letters, digits
from typing import Any

import pydantic_core

from ..auth.keys.format import check_sum
from ..events.untrusted import rarest

_SHORTEST = 20  # characters
_VARIED = 5  # different characters among the last 20 at least: fewer are a placeholder
_RUN_CHARACTERS = (ascii_letters + digits + "_-").encode()
_SHAPE = bytes(0x61 if byte in _RUN_CHARACTERS else 0x20 for byte in range(256))
_RUN = b"a" * _SHORTEST

# The formats are described by those who issue them, and by secret scanners.
_BEGINNINGS = {
    "anthropic-key": rb"sk-ant-[a-z0-9]{2,10}-[\w-]{80,}",
    "aws-access-key": rb"(?:AKIA|ASIA)[A-Z2-7]{16}(?![0-9A-Za-z])",
    "databricks-token": rb"dapi[0-9a-f]{32}(?![0-9A-Za-z])",
    "digitalocean-token": rb"do[opr]_v1_[0-9a-f]{64}",
    "docker-token": rb"dckr_[po]at_[\w-]{27,}",
    "github-token": rb"gh[oprsu]_[0-9A-Za-z]{36}(?![0-9A-Za-z])|github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
    "gitlab-token": rb"gl(?:pat|dt|rt|ptt|cbt|oas|agent)-[\w-]{20,}",
    "google-api-key": rb"AIza[\w-]{35}(?![0-9A-Za-z])",
    "google-token": rb"(?<=ya29\.)[\w-]{50,}",
    "grafana-token": rb"glsa_[0-9A-Za-z]{32}_[0-9a-f]{8}|glc_eyJ[0-9A-Za-z+/]{24,400}={0,2}",
    "groq-key": rb"gsk_[0-9A-Za-z]{52}",
    "hugging-face-token": rb"hf_[A-Za-z]{34}(?![0-9A-Za-z])",
    "jwt": rb"eyJ[\w-]{17,}\.eyJ[\w-]{8,}\.[\w-]{20,}",
    "mcp-key": rb"mcp_[0-9a-z]{10}_[0-9A-Za-z]{49}(?![0-9A-Za-z])",
    "npm-token": rb"npm_[0-9A-Za-z]{36}(?![0-9A-Za-z])",
    "openai-key": rb"sk-[\w-]{20,200}T3BlbkFJ[\w-]{20,}",
    "pypi-token": rb"pypi-AgE[\w-]{50,}",
    "sendgrid-key": rb"(?<=SG\.)[\w-]{22}\.[\w-]{43}",
    "shopify-token": rb"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "slack-token": rb"xox[abeoprs]-[0-9]+-[0-9A-Za-z-]{20,}|xapp-[0-9]-[0-9A-Z]{8,}-[0-9A-Za-z-]{40,}",
    "stripe-key": rb"[rs]k_(?:live|test)_[0-9A-Za-z]{24,}|whsec_[0-9A-Za-z]{32}",
    "vault-token": rb"(?<=hv[bs]\.)(?:[\w-]{90,}|[0-9A-Za-z]{24}(?![\w-]))",
}
_FORMS = b"|".join(pattern for name, pattern in _BEGINNINGS.items() if name != "jwt")
# In front of it the rest of an escape may stand (JSON, Python, URL, quoted-printable), or of a terminal's colour.
_ESCAPE = rb"(?<=[\\%=\[;])(?:[bfnrtv]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|(?:25){0,3}[0-9A-Fa-f]{2}|[0-9]{1,3}m?)"
_BEGINNING = re.compile(b"(?:" + _ESCAPE + b")?(" + _FORMS + b")", re.ASCII)
# Those with a check sum are known behind any letter: by the fourth and last character of their prefix.
_INSIDE = re.compile(rb"[_-](?:(" + _FORMS + rb")|(?<=gh[oprsu]_|npm_|mcp_)[0-9A-Za-z]{10})", re.ASCII)
_NAMED = re.compile(
    b"|".join(b"(?P<%s>%s)" % (name.replace("-", "_").encode(), pattern) for name, pattern in _BEGINNINGS.items()),
    re.ASCII,
)
_NAMED_KEY = rb"(?i:secret_?access_?key)[^A-Za-z0-9/+]{1,20}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"
# What is no such run: what is looked for first, the name, the form, whose group is the secret.
_SPELLED = tuple(
    (rarest(word), word, name, re.compile(pattern, re.ASCII))
    for word, name, pattern in (
        (
            b"PRIVATE KEY",
            "private-key",
            rb"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            rb"(?:(?!-----)[A-Za-z0-9+/=:,.()\s\\\"-])++(?:-----END (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?",
        ),
        (b"Key=", "azure-key", rb"(?:Account|SharedAccess)Key=([A-Za-z0-9+/]{40,100}={0,2})"),
        (b"hooks.slack.com/", "slack-webhook", rb"hooks\.slack\.com/services/(T\w{8,20}/B\w{8,20}/\w{20,40})"),
        *((name, "aws-secret-key", _NAMED_KEY) for name in (b"ecret_access_key", b"ecretAccessKey", b"ECRET_ACCESS")),
        (
            b"@",
            "url-password",
            rb"://[^\s/:@?#\"'<>\\]{0,100}+:([^\s/:@\"'<>\\(){}\[\]$%*,;|][^\s/:@\"'<>\\{}\[\]%,;|]{0,99}"
            rb"(?:%[0-9A-F]{2}[^\s/:@\"'<>\\]{0,100})?)@",
        ),
    )
)
_SECRET_OF_AWS = re.compile(rb"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_PLACEHOLDERS = re.compile(
    rb"(?i)(?:my|your|the|db|user|pg)?_?-?(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|x+|\.+)\d?"
)
AWS = frozenset({"aws-access-key", "aws-secret-key"})


def find_credentials(data: bytes, *, beside_aws_key: bool = False) -> Iterator[tuple[int, int, str]]:
    """Yield beginning, end and name of each credential in a text in UTF-8, or in a JSON document of texts.

    With `beside_aws_key`, 40 characters that may be a secret key of AWS are taken for one: its id is not far.
    """
    for place in _places(data):
        named = _NAMED.match(data, place)
        if named is not None and named.lastgroup is not None:
            name = named.lastgroup.replace("_", "-")
            if _CHECKS.get(name, _is_varied)(named[0]):
                yield *named.span(), name
    for rare, word, name, pattern in _SPELLED:
        if rare in data and word in data:
            for found in pattern.finditer(data):
                if _CHECKS.get(name, _is_varied)(found[found.lastindex or 0]):
                    yield *found.span(found.lastindex or 0), name
    if beside_aws_key:
        yield from ((*one.span(), "aws-secret-key") for one in _SECRET_OF_AWS.finditer(data) if _is_mixed(one[0]))


def without_credentials(data: bytes, *, beside_aws_key: bool = False) -> tuple[bytes, set[str]]:
    """Return a text with `[redacted: name]` for each credential, and the names."""
    kept, end, names = [], 0, set()
    for start, stop, name in sorted(find_credentials(data, beside_aws_key=beside_aws_key)):
        if start >= end:
            kept += [data[end:start], b"[redacted: %s]" % name.encode()]
            end = stop
            names.add(name)
    return b"".join([*kept, data[end:]]), names


def _places(data: bytes) -> Iterator[int]:
    """Yield where a form begins: at the beginning of a run that is long enough, or behind a `_` or `-` in it."""
    shape = data.translate(_SHAPE) + b" "
    start = shape.find(_RUN)
    while start >= 0:
        end = shape.find(b" ", start)
        if not data[start:end].strip(b"0123456789-_nrt"):  # a number, behind an escape perhaps: no form is one
            start = shape.find(_RUN, end)
            continue
        if first := _BEGINNING.match(data, start):
            yield first.start(1)
        # Of a JWT the first dot is found first: of a run of many `eyJ`, each would be read to its end.
        if data.startswith(b".eyJ", end) and (jwt := data.find(b"eyJ", start, end)) >= 0:
            yield jwt
        if max(data.find(b"_", start, end), data.find(b"-", start, end)) >= 0:
            for inside in _INSIDE.finditer(data, first.end() if first else start, end):
                yield inside.start(1) if inside[1] else inside.start() - 3
        start = shape.find(_RUN, end)


def _is_varied(secret: bytes) -> bool:
    return len(set(secret[-20:])) >= _VARIED


def _is_mixed(secret: bytes) -> bool:
    return _is_varied(secret) and all(re.search(kind, secret) for kind in (rb"[a-z]", rb"[A-Z]", rb"[0-9]"))


def _has_check_sum(token: bytes) -> bool:
    """Of GitHub and npm the last six characters are the CRC32 of the random part, in base 62."""
    text = token.decode()
    random = text.partition("_")[2]
    return text.startswith("github_pat_") or check_sum(random[:-6]) == random[-6:]


def _is_jwt(token: bytes) -> bool:
    header, claims, _ = token.split(b".")
    return "alg" in _decoded(header) and bool(_decoded(claims))


def _decoded(part: bytes) -> dict[str, Any]:
    try:
        value = pydantic_core.from_json(base64.urlsafe_b64decode(part + b"=="))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_CHECKS: Mapping[str, Callable[[bytes], bool]] = {
    "aws-access-key": lambda key: _is_varied(key) and not key.endswith(b"EXAMPLE"),
    "aws-secret-key": lambda key: _is_mixed(key) and not key.endswith(b"EXAMPLEKEY"),
    "github-token": _has_check_sum,
    "jwt": _is_jwt,
    "mcp-key": lambda key: check_sum(key[:-6].decode()) == key[-6:].decode(),
    "npm-token": _has_check_sum,
    "private-key": lambda key: re.search(rb"[A-Za-z0-9+/]{40}", key) is not None,
    "url-password": lambda password: len(password) > 2 and not _PLACEHOLDERS.fullmatch(password),
}
