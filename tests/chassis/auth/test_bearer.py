"""Finding the bearer token in a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.middleware.authentication import bearer_token


def header(value: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"a.example"), (b"authorization", value)]


def test_a_request_without_credential_has_no_token() -> None:
    assert bearer_token([]) is None
    assert bearer_token([(b"x-authorization", b"Bearer abc"), (b"cookie", b"authorization=Bearer abc")]) is None


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer abc", "abc"),
        (b"BEARER   a.b-c_d~e+f/g==", "a.b-c_d~e+f/g=="),
        (b"\tBearer abc ", "abc"),
        (b"Bearer " + b"a" * 8192, "a" * 8192),
    ],
)
def test_the_scheme_is_read_in_any_case_and_the_token_as_it_is(value: bytes, token: str) -> None:
    assert bearer_token(header(value)) == token


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        b"Bearerabc",
        b"Bearer\tabc",
        b"Bearer abc def",
        b"Bearer abc, Bearer def",
        b'Bearer "abc"',
        b"Bearer =",
        b"Bearer a=b",
        b"Bearer abc\n",
        b"Bearer \xd0\xba",
        b"Bearer " + b"a" * 8193,
    ],
)
def test_everything_else_is_malformed(value: bytes) -> None:
    with pytest.raises(InvalidCredential) as refusal:
        bearer_token(header(value))
    assert refusal.value.reason == "malformed"


def test_two_headers_are_ambiguous_even_if_they_are_equal() -> None:
    """Of two headers one reader takes the first and another the last."""
    with pytest.raises(InvalidCredential, match="ambiguous"):
        bearer_token([*header(b"Bearer abc"), *header(b"Bearer abc")])


@given(st.binary(max_size=40))
def test_no_bytes_make_it_fail_in_another_way(value: bytes) -> None:
    try:
        token = bearer_token(header(value))
    except InvalidCredential:
        return
    assert token is not None
    assert value.strip(b" \t").endswith(token.encode())
