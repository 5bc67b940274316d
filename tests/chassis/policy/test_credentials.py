"""Credentials that are known by their form, and what only looks like one."""

import base64
import hashlib
import json
import os
import re
import secrets
import string
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.auth.keys.format import check_sum, new_id, new_key
from mcp_chassis.calls.credentials import AWS, find_credentials, without_credentials

BASE62 = string.digits + string.ascii_letters
WORD = f"{BASE62}_-"
MAX_SHARE = 1 / 10_000


def some(length: int, alphabet: str = BASE62) -> str:
    """Return random characters. Made at run time: no scanner of this repository finds one."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def checked(prefix: str) -> str:
    random_part = some(30)
    return prefix + random_part + check_sum(random_part)


def coded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt() -> str:
    return f"{coded({'alg': 'ES256', 'typ': 'JWT'})}.{coded({'sub': some(8)})}.{some(86, WORD)}"


def pem(kind: str = "PRIVATE KEY", end: str = "\n") -> str:
    body = base64.b64encode(os.urandom(600)).decode()
    lines = [f"-----BEGIN {kind}-----", *(body[i : i + 64] for i in range(0, len(body), 64)), f"-----END {kind}-----"]
    return end.join(lines)


MADE: dict[str, list[Callable[[], str]]] = {
    "anthropic-key": [lambda: f"sk-ant-api03-{some(93, WORD)}AA"],
    "aws-access-key": [
        lambda: "AKIA" + some(16, string.ascii_uppercase + "234567"),
        lambda: "ASIA" + some(16, "ABCDEFG234567"),
    ],
    "aws-secret-key": [lambda: f"aws_secret_access_key = {some(36)}aA1+;"],
    "azure-key": [lambda: f"AccountName=a;AccountKey={base64.b64encode(os.urandom(64)).decode()};EndpointSuffix=b"],
    "databricks-token": [lambda: "dapi" + secrets.token_hex(16)],
    "digitalocean-token": [lambda: "dop_v1_" + secrets.token_hex(32)],
    "docker-token": [lambda: "dckr_pat_" + some(27, WORD)],
    "github-token": [
        *(lambda kind=kind: checked(f"gh{kind}_") for kind in "oprsu"),
        lambda: f"github_pat_{some(22)}_{some(59)}",
    ],
    "gitlab-token": [lambda: "glpat-" + some(20, WORD)],
    "google-api-key": [lambda: "AIza" + some(35, WORD)],
    "google-token": [lambda: "ya29." + some(80, WORD)],
    "grafana-token": [
        lambda: f"glsa_{some(32)}_{secrets.token_hex(4)}",
        lambda: "glc_" + base64.b64encode(json.dumps({"o": "1", "n": "a", "k": some(24)}).encode()).decode(),
    ],
    "groq-key": [lambda: "gsk_" + some(52)],
    "hugging-face-token": [lambda: "hf_" + some(34, string.ascii_letters)],
    "jwt": [jwt],
    "mcp-key": [lambda: new_key(new_id())],
    "npm-token": [lambda: checked("npm_")],
    "openai-key": [
        lambda: f"sk-proj-{some(58, WORD)}T3BlbkFJ{some(58, WORD)}",
        lambda: f"sk-{some(20)}T3BlbkFJ{some(20)}",
    ],
    "private-key": [
        pem,
        lambda: pem("RSA PRIVATE KEY"),
        lambda: pem("OPENSSH PRIVATE KEY", "\r\n"),
        lambda: pem(end="\\n"),
    ],
    "pypi-token": [lambda: "pypi-AgEIcHlwaS5vcmc" + some(120, WORD)],
    "sendgrid-key": [lambda: f"SG.{some(22, WORD)}.{some(43, WORD)}"],
    "shopify-token": [lambda: "shpat_" + secrets.token_hex(16)],
    "slack-token": [
        lambda: f"xoxb-{some(11, string.digits)}-{some(12, string.digits)}-{some(24)}",
        lambda: f"xoxe.xoxp-1-{some(163, string.ascii_uppercase + string.digits)}",
        lambda: f"xoxe-1-{some(146)}",
    ],
    "slack-webhook": [lambda: f"https://hooks.slack.com/services/T{some(8)}/B{some(8)}/{some(24)}"],
    "stripe-key": [lambda: "sk_live_" + some(24), lambda: "rk_test_" + some(99)],
    "url-password": [
        lambda: f"postgres://app:{some(16)}@db:5432/orders",
        lambda: f"redis://:{some(12)}@cache",
        *(lambda sign=sign: f"mysql://app:{some(4)}{sign}{some(14)}@db" for sign in "$*()!"),
    ],
    "vault-token": [lambda: "hvs." + some(95, WORD), lambda: "hvs." + some(24)],
}
AROUND = [
    "{}",
    "token={}",
    '{{"a": "{}"}}',
    "a\n{}\nb",
    "({})",
    "https://example.com/{}/b",
    "`{}`",
    "'{}',",
    "wörter {} 漢字",
]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("around", AROUND, ids=ascii)
def test_a_credential_is_taken_out_wherever_it_stands(name: str, around: str) -> None:
    for make in MADE[name]:
        for _ in range(10):
            credential = make()
            for text in (around.format(credential), json.dumps(around.format(credential), ensure_ascii=False)):
                kept, names = without_credentials(text.encode())
                assert names == {name}, credential[:8]
                assert f"[redacted: {name}]" in kept.decode()
                assert max(re.findall(r"[\w+/-]{12,}", credential), key=len)[-12:].encode() not in kept


# What may stand directly in front of one in URLs, JSON, programs, mail and terminals; and names in front of it.
BEFORE = [
    *("%3D", "%3d", "%22", "%20", "%253D", "%25253d", "\\u003D", "\\u003d", "\\x3d", "\\x3D", "\\075", "=3D", "=22"),
    *("\\n", "\\\\n", "\\v", "\x1b[32m", "\x1b[1;31m", "key-", "user_", "x-", "my_long-name_of_", "--", "_"),
]
# Of these the middle is in the form: nothing but a dot or a scheme stands in front of the others.
DOTTED = {"google-token", "sendgrid-key", "vault-token"}


@pytest.mark.parametrize("before", BEFORE, ids=ascii)
def test_what_stands_in_front_of_it_hides_none(before: str) -> None:
    for name in MADE.keys() - DOTTED:
        for make in MADE[name]:
            credential = make()
            kept, names = without_credentials(f"{before}{credential}_ end".encode())
            assert names == {name}, credential[:8]
            assert max(re.findall(r"[\w+/-]{12,}", credential), key=len)[-12:].encode() not in kept


@pytest.mark.parametrize("before", ["a", "T", "0", "3D"])
@pytest.mark.parametrize("name", ["github-token", "jwt", "mcp-key", "npm-token"])
def test_one_with_a_check_sum_is_known_behind_any_letter(before: str, name: str) -> None:
    credential = MADE[name][0]()
    assert without_credentials(f"{before}{credential} end".encode())[1] == {name}


def test_each_of_many_in_a_row_is_taken_out() -> None:
    of_fixed_length = {"aws-access-key", "github-token", "hugging-face-token", "mcp-key", "npm-token"}
    row = "_".join(make() for name in sorted(of_fixed_length) for make in MADE[name] * 2)
    kept, names = without_credentials(row.encode())
    assert names == of_fixed_length
    assert len(re.sub(rb"\[redacted: [\w-]+\]", b"", kept)) == kept.count(b"]_[")


def test_what_stands_around_it_stays() -> None:
    token = checked("ghp_")
    assert without_credentials(f"a {token}, b".encode()) == (b"a [redacted: github-token], b", {"github-token"})
    address = f"postgres://app:{some(16)}@db/orders".encode()
    assert without_credentials(address)[0] == b"postgres://app:[redacted: url-password]@db/orders"


def test_a_secret_key_of_aws_is_known_by_its_id_beside_it() -> None:
    secret = some(37) + "aA1"
    assert without_credentials(secret.encode()) == (secret.encode(), set())
    assert without_credentials(secret.encode(), beside_aws_key=True) == (
        b"[redacted: aws-secret-key]",
        {"aws-secret-key"},
    )
    assert {"aws-access-key", "aws-secret-key"} == AWS


@pytest.mark.parametrize("name", ["github-token", "npm-token", "mcp-key"])
def test_a_wrong_check_sum_is_no_credential(name: str) -> None:
    for _ in range(100):
        token = MADE[name][0]()
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        assert without_credentials(wrong.encode()) == (wrong.encode(), set())


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk_live_xxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_" + "x" * 36,
        "postgres://user:password@localhost/db",
        "https://user:pass@example.com",
        "redis://:${REDIS_PASSWORD}@cache",
        "postgresql://{user}:{password}@{host}/{db}",
        "mysql://root:<password>@db",
        "https://example.com:8080/@scope/name",
        "write to ann@example.com: https://example.com/a:b",
        "git@github.com:org/repository.git",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + "A" * 64 + "\n-----END PUBLIC KEY-----",
        "eyJhbGciOiJub25lIn0",
        "npm_config_user_agent_and_a_long_name_of_a_variable",
        "the key sk-learn-estimators-are-not-of-openai-at-all",
        "hf_transfer_is_a_library_for_fast_uploads_of_models",
        "secret_access_key: see the documentation of your account for this",
        "AccountKey=<your account key>",
        "postgres://user:$PASSWORD@db and mysql://user:$(cat_password)@db, and amqp://(.+):(.+)@(.+)",
        "hvs.load_all_values_of_the_file and hvs.somethingThatIsLongerThanAToken",
        "x-ghp_and_other_names_that_are_long_enough_for_a_run_of_letters",
    ],
)
def test_an_example_is_no_credential(text: str) -> None:
    assert without_credentials(text.encode()) == (text.encode(), set())


def test_the_source_of_python_holds_almost_none() -> None:
    """Of the lines of the standard library, its tests included, at most one in 10,000 is a false alarm."""
    paths = [path for path in Path(sysconfig.get_path("stdlib")).rglob("*.py") if "site-packages" not in path.parts]
    lines, found = 0, []
    for path in sorted(paths)[::4]:
        data = path.read_bytes()
        lines += data.count(b"\n")
        found += [(path.name, data[start:end], name) for start, end, name in find_credentials(data)]
    assert lines > 50_000
    assert len(found) <= lines * MAX_SHARE, found


def ordinary(kind: str) -> Iterator[bytes]:
    for number in range(2_000):
        data = os.urandom(200)
        yield {
            "uuid": str(uuid.uuid4()).encode(),
            "hash": hashlib.sha256(data).hexdigest().encode(),
            "image": base64.b64encode(data * 20),
            "base64url": base64.urlsafe_b64encode(data),
            "base64url short": base64.urlsafe_b64encode(data[:24]),
            "integrity": f"sha512-{base64.b64encode(data[:64]).decode()}".encode(),
            "path": f"/usr/lib/python3/dist-packages/{some(20)}/{number}.py".encode(),
            "url": f"https://cdn.example.com/{some(12)}@{number}/{some(30)}?v={some(8)}:{number}".encode(),
            "mail": f"Ann {number} <ann{number}@example.com>: http://example.com:80/{some(40)}".encode(),
        }[kind]


@pytest.mark.parametrize(
    "kind", ["uuid", "hash", "image", "base64url", "base64url short", "integrity", "path", "url", "mail"]
)
def test_random_values_of_other_kinds_are_not_touched(kind: str) -> None:
    values = list(ordinary(kind))
    assert sum(bool(list(find_credentials(value))) for value in values) <= len(values) * MAX_SHARE
    whole = b'{"a": "' + b'", "'.join(values) + b'"}'
    assert not list(find_credentials(whole))


@given(st.binary(max_size=300))
def test_any_bytes_can_be_searched_and_are_left_clean(data: bytes) -> None:
    kept, names = without_credentials(data)
    assert (kept == data) is not bool(names)
    assert not without_credentials(kept)[1]


@pytest.mark.parametrize(
    "piece",
    [
        b"a" * 19 + b" ",
        b"-----BEGIN PRIVATE KEY-----",
        b"-----BEGIN PRIVATE KEY-----" + b"A" * 50,
        b"://a:b",
        b"://",
        b"eyJ" + b"a" * 17 + b".",
        b"sk-" + b"a" * 20,
        b"sk-",
        b"-eyJ",
        b"-eyJ" * 5 + b".eyJ",
        b"-a_",
        b"-sk-ant-aa",
        b"ghp_",
        b"hvs." + b"a" * 20,
        b"T3BlbkFJ",
        b"secret_access_key",
        b"secret_access_key=" + b"a" * 39 + b" ",
        b"AccountKey=" + b"a" * 39 + b" ",
        b"[_-",
    ],
)
def test_the_time_is_linear(piece: bytes) -> None:
    """Twice the text takes twice the time, and not four times: no text keeps the server."""

    def seconds(size: int) -> float:
        text, least = piece * (size // len(piece)) + b"@", 9.0
        for _ in range(3):
            start = time.process_time()
            list(find_credentials(text))
            least = min(least, time.process_time() - start)
        return least

    assert seconds(400_000) < 0.02 + 6 * seconds(100_000) + 0.01
    assert seconds(400_000) < 2
