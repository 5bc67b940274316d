"""Who is calling."""

import dataclasses

import pytest

from mcp_chassis.auth.principal import (
    ANONYMOUS,
    STDIO,
    Principal,
    authenticated,
    current_principal,
    get_principal,
)


def test_a_principal_may_what_its_scopes_say_and_no_more() -> None:
    reader = Principal("oauth:alice", "oauth", frozenset({"notes:read"}))
    assert reader.may("notes:read")
    assert not reader.may("notes:write")
    assert not reader.may("notes")
    assert not Principal("oauth:bob", "oauth").may("notes:read")


def test_the_star_is_every_scope() -> None:
    assert STDIO.may("anything")
    assert ANONYMOUS.may("anything")


def test_a_principal_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ANONYMOUS.scopes = frozenset({"admin"})  # type: ignore[misc]


def test_get_principal_works_in_a_call_and_says_so_outside_of_one() -> None:
    with pytest.raises(LookupError, match="there is no caller"):
        get_principal()
    before = current_principal.set(STDIO)
    try:
        assert get_principal() is STDIO
    finally:
        current_principal.reset(before)


@pytest.mark.parametrize(("principal", "expected"), [(None, None), (ANONYMOUS, None), (STDIO, STDIO)])
def test_an_anonymous_caller_is_not_authenticated(principal: Principal | None, expected: Principal | None) -> None:
    before = current_principal.set(principal)
    try:
        assert authenticated() is expected
    finally:
        current_principal.reset(before)


def test_only_a_name_that_an_operator_gave_is_a_field_of_logs() -> None:
    assert Principal("key:a", "key", name="ci").name_field == {"key_name": "ci"}
    assert Principal("oauth:alice", "oauth").name_field == {}
