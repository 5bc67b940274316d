"""What an API key looks like."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.auth.keys.format import digest, id_of, new_id, new_key
from mcp_chassis.auth.verifier import InvalidCredential

KEY = new_key("ci00000000")
SCANNED_FOR = re.compile(r"\bmcp_[0-9a-z]{10}_[0-9A-Za-z]{49}\b")


def test_a_key_is_new_each_time_and_secret_scanners_find_it() -> None:
    keys = {new_key(new_id()) for _ in range(100)}
    assert len(keys) == 100
    assert all(SCANNED_FOR.fullmatch(key) for key in keys)
    assert len({id_of(key) for key in keys}) == 100


def test_a_key_holds_256_random_bits() -> None:
    secret = KEY.removeprefix("mcp_ci00000000_")[:-6]
    assert 62 ** len(secret) >= 2**256


def test_the_check_sum_is_the_same_in_every_version() -> None:
    """A change of the format would make every key out there a typing error."""
    known = "mcp_0123456789_" + "a" * 43 + "3Wois1"
    assert id_of(known) == "0123456789"
    assert digest("mcp_x") == "eef774ecd5e9458ff0afc7cd6f2cd4a4a19c35e97130dc0f86162737b27a9100"


@given(st.integers(0, len(KEY) - 1), st.sampled_from("0aZ_-.~é "))
def test_every_single_typing_error_is_noticed(position: int, letter: str) -> None:
    mistyped = KEY[:position] + letter + KEY[position + 1 :]
    if mistyped != KEY:
        with pytest.raises(InvalidCredential):
            id_of(mistyped)


@given(st.integers(0, len(KEY) - 2))
def test_two_letters_in_the_wrong_order_are_noticed(position: int) -> None:
    swapped = KEY[:position] + KEY[position + 1] + KEY[position] + KEY[position + 2 :]
    if swapped != KEY:
        with pytest.raises(InvalidCredential):
            id_of(swapped)


@pytest.mark.parametrize(
    "text",
    ["", "mcp_", KEY[:-1], KEY + "0", KEY + "\n", " " + KEY, KEY.upper(), KEY * 2],
    ids=["empty", "prefix only", "cut off", "longer", "line end", "space", "upper case", "twice"],
)
def test_other_text_is_no_key(text: str) -> None:
    with pytest.raises(InvalidCredential):
        id_of(text)
