"""API keys: whom they stand for, and every way in which they can be wrong."""

import hmac
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from mcp_chassis.auth.keys import verifier as key_verifier
from mcp_chassis.auth.keys.format import digest, new_id, new_key
from mcp_chassis.auth.keys.records import KeyRecord, default_record
from mcp_chassis.auth.keys.verifier import KeyVerifier
from mcp_chassis.auth.principal import Principal
from mcp_chassis.auth.verifier import InvalidCredential, Verifier

from ..support.keys import record_of

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
KEY = new_key(new_id())


def verifier(*records: KeyRecord) -> KeyVerifier:
    keys = {record.id: record for record in records}
    return KeyVerifier(lambda: keys)


async def reason(token: str, *records: KeyRecord) -> str:
    with pytest.raises(InvalidCredential) as refusal:
        await verifier(*records).verify(token)
    assert token not in str(refusal.value)
    return refusal.value.reason


async def test_a_key_stands_for_a_principal_with_its_scopes_and_no_more() -> None:
    record = record_of(KEY, scopes=("notes:read",))
    principal = await verifier(record).verify(KEY)
    assert principal == Principal(f"key:{record.id}", "key", frozenset({"notes:read"}))
    assert not principal.may("notes:write")
    assert KEY not in repr(principal)


async def test_a_key_without_end() -> None:
    assert await verifier(record_of(KEY, expires=None)).verify(KEY) is not None


async def test_what_does_not_look_like_a_key_is_left_to_other_verifiers() -> None:
    assert await verifier().verify("eyJhbGciOiJub25lIn0.e30.") is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expires": NOW - HOUR}, "expired"),
        ({"revoked": NOW - HOUR}, "revoked"),
        ({"revoked": NOW + HOUR}, "revoked"),
        ({"sha256": digest("another")}, "unknown"),
        ({"sha256": digest("another"), "previous_sha256": digest(KEY), "previous_until": NOW - HOUR}, "rotated"),
        ({"sha256": digest("another"), "previous_sha256": digest(KEY)}, "rotated"),
    ],
    ids=["expired", "revoked", "revoked in the future", "wrong secret", "after the overlap", "no overlap"],
)
async def test_a_key_that_is_not_good_any_more(changes: dict[str, Any], expected: str) -> None:
    record = record_of(KEY, **changes)
    assert await reason(KEY, record) == expected
    if expected != "unknown":
        with pytest.raises(InvalidCredential) as refusal:
            await verifier(record).verify(KEY)
        assert refusal.value.whose == f"key:{record.id}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expires": NOW}, "expired"),
        ({"sha256": digest("another"), "previous_sha256": digest(KEY), "previous_until": NOW}, "rotated"),
    ],
    ids=["expires", "previous_until"],
)
async def test_a_key_ends_at_its_end_and_not_after_it(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: str
) -> None:
    record = record_of(KEY, **changes)
    for early, is_good in ((timedelta(microseconds=1), True), (timedelta(0), False)):
        monkeypatch.setattr(key_verifier, "datetime", SimpleNamespace(now=lambda _, early=early: NOW - early))
        if is_good:
            assert getattr(await verifier(record).verify(KEY), "id", None) == f"key:{record.id}"
        else:
            assert await reason(KEY, record) == expected
    assert record_of(KEY, expires=NOW).state(NOW) == "expired"
    assert record_of(KEY, expires=NOW).state(NOW - timedelta(microseconds=1)) == "valid"


async def test_of_a_key_whose_secret_is_wrong_nothing_is_said() -> None:
    """Ids are no secret: only a caller with the secret may learn, or make us log, that a key has expired."""
    guess = new_key(record_of(KEY).id)
    for changes in ({}, {"expires": NOW - HOUR}, {"revoked": NOW}):
        with pytest.raises(InvalidCredential) as refusal:
            await verifier(record_of(KEY, **changes)).verify(guess)
        assert (refusal.value.reason, refusal.value.whose) == ("unknown", None)


async def test_a_mistyped_key_is_recognised_without_looking_it_up() -> None:
    def never() -> dict[str, KeyRecord]:
        raise AssertionError("looked up")

    with pytest.raises(InvalidCredential) as refusal:
        await KeyVerifier(never).verify(KEY[:-1] + ("0" if KEY[-1] != "0" else "1"))
    assert refusal.value.reason == "check_sum"


async def test_while_a_rotation_overlaps_both_secrets_are_good_and_stand_for_the_same() -> None:
    new = new_key(record_of(KEY).id)
    record = record_of(new, previous_sha256=digest(KEY), previous_until=NOW + HOUR)
    judge = verifier(record)
    assert await judge.verify(KEY) == await judge.verify(new)


async def test_who_still_uses_the_old_secret_is_logged_once() -> None:
    new = new_key(record_of(KEY).id)
    judge = verifier(record_of(new, previous_sha256=digest(KEY), previous_until=NOW + HOUR))
    with capture_logs() as logged:
        await judge.verify(new)
        assert logged == []
        for _ in range(3):
            await judge.verify(new)
            await judge.verify(KEY)
    assert [line["key"] for line in logged] == [record_of(KEY).id]
    assert KEY not in str(logged)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"revoked": NOW}, "revoked"), ({"expires": NOW - HOUR}, "expired"), ({"previous": True}, "rotated")],
)
async def test_a_key_of_the_file_in_api_key_ends_as_its_record_says(changes: dict[str, Any], expected: str) -> None:
    if changes.pop("previous", False):
        record = record_of(new_key(record_of(KEY).id), previous_sha256=digest(KEY), previous_until=NOW - HOUR)
    else:
        record = record_of(KEY, **changes)
    with pytest.raises(InvalidCredential) as refusal:
        await KeyVerifier(lambda: {record.id: record}, default=default_record(KEY)).verify(KEY)
    assert refusal.value.reason == expected


async def test_a_key_of_the_file_in_api_key_has_the_scopes_of_its_record() -> None:
    record = record_of(KEY, scopes=("notes:read",))
    principal = await KeyVerifier(lambda: {record.id: record}, default=default_record(KEY)).verify(KEY)
    assert principal == Principal(f"key:{record.id}", "key", frozenset({"notes:read"}))
    other = record_of(new_key(record.id))  # of the same id, which is no secret, and another secret
    principal = await KeyVerifier(lambda: {other.id: other}, default=default_record(KEY)).verify(KEY)
    assert principal is not None
    assert principal.id == "key:default"


async def test_labels_of_a_key_are_claims_and_one_value_is_text() -> None:
    principal = await verifier(record_of(KEY, labels={"tenant": ("acme",), "groups": ("a", "b")})).verify(KEY)
    assert principal is not None
    assert principal.claims == {"tenant": "acme", "groups": ("a", "b")}


async def test_a_revoked_key_is_revoked_with_both_its_secrets() -> None:
    new = new_key(record_of(KEY).id)
    record = record_of(new, previous_sha256=digest(KEY), previous_until=NOW + HOUR, revoked=NOW)
    assert [await reason(key, record) for key in (KEY, new)] == ["revoked", "revoked"]


async def test_an_unknown_id_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time of an answer shows which ids exist."""
    work: list[str] = []

    def counting_digest(token: str) -> str:
        work.append("digest")
        return digest(token)

    class Counting:
        @staticmethod
        def compare_digest(one: bytes, other: bytes) -> bool:
            assert (type(one), type(other)) == (bytes, bytes), "text that is not ASCII would raise TypeError"
            work.append(f"compare {len(one)} {len(other)}")
            return hmac.compare_digest(one, other)

    monkeypatch.setattr(key_verifier, "hmac", Counting)
    monkeypatch.setattr(key_verifier, "digest", counting_digest)
    done = []
    for token in (KEY, new_key(record_of(KEY).id), new_key(new_id())):
        work.clear()
        with suppress(InvalidCredential):
            await verifier(record_of(KEY)).verify(token)
        done.append(list(work))
    assert done[0] == done[1] == done[2] == ["digest", *["compare 64 64"] * 3]


def test_only_an_expired_or_owned_credential_was_good_once() -> None:
    """What was never valid is a guess, and counts among those of all addresses."""
    owner = Principal("key:a", "key")
    assert [InvalidCredential(reason).was_good for reason in ("expired", "unknown", "revoked")] == [True, False, False]
    assert InvalidCredential("revoked", owner).was_good


def test_a_verifier_that_does_not_verify_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="verify"):
        type("Forgetful", (Verifier,), {})()
