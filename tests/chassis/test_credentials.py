"""Which verifier judges a credential, and what happens if there is none."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_chassis.auth.keys.format import id_of, new_id, new_key
from mcp_chassis.auth.keys.records import format_records
from mcp_chassis.auth.keys.store import KeySource
from mcp_chassis.auth.oauth.jwks import IssuerUnavailable
from mcp_chassis.auth.verifier import InvalidCredential
from mcp_chassis.parts import Parts
from mcp_chassis.settings import SettingsError, load_settings

from .support.keys import add_key, put, record_of
from .support.outside import outside_world

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
OAUTH = {"auth_mode": "oauth", "oauth_issuer": "https://login.example.com"}
INTROSPECTION = {
    "oauth_introspection_url": "https://login.example.com/introspect",
    "oauth_client_id": "mcp",
    "oauth_client_secret": "secret",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def judges(**settings: Any) -> list[str]:
    loaded = load_settings(_env_file=None, **settings)
    parts = Parts(settings=loaded, name="test", version="")
    return [type(verifier).__name__ for verifier in (*parts.keys.verifiers(frozenset()), *parts.verifiers)]


def problem(**settings: Any) -> str:
    with pytest.raises(SettingsError) as error:
        judges(**settings)
    (sentence,) = error.value.problems
    return sentence


def test_the_cheapest_is_asked_first_and_the_issuer_last(path: Path) -> None:
    assert judges(api_key=KEY) == ["KeyVerifier"]
    assert judges(api_key=KEY, keys_file=path, **OAUTH, **INTROSPECTION) == [
        *("KeyVerifier", "JwtVerifier", "IntrospectionVerifier")
    ]
    assert judges(**OAUTH) == ["KeyVerifier", "JwtVerifier"]
    assert judges(enable_auth=False) == ["KeyVerifier"]


@pytest.mark.anyio
async def test_keys_from_the_settings_are_good_as_well() -> None:
    key = new_key(new_id())
    credentials = KeySource(load_settings(_env_file=None, keys=format_records([record_of(key)])))
    principal = await credentials.verifiers(frozenset())[0].verify(key)
    assert principal is not None
    assert principal.id == f"key:{id_of(key)}"
    assert credentials.revoked() == []


@pytest.mark.anyio
async def test_a_key_that_was_revoked_elsewhere_is_refused(path: Path) -> None:
    key = add_key(path)
    credentials = KeySource(load_settings(_env_file=None, keys_file=path))
    with pytest.raises(InvalidCredential) as refusal:
        await credentials.verifiers({id_of(key)})[0].verify(key)
    assert refusal.value.reason == "revoked"


@pytest.mark.anyio
async def test_a_key_that_is_revoked_in_the_file_is_revoked_whatever_an_older_copy_in_the_settings_says(
    path: Path,
) -> None:
    key = add_key(path)
    copy = format_records([record_of(key)])
    put(path, record_of(key, revoked=datetime.now(UTC)))
    credentials = KeySource(load_settings(_env_file=None, api_key=KEY, keys=copy, keys_file=path))
    assert credentials.revoked() == [id_of(key)]
    with pytest.raises(InvalidCredential) as refusal:
        await credentials.verifiers(frozenset())[0].verify(key)
    assert refusal.value.reason == "revoked"


def test_a_server_without_a_usable_credential_does_not_start(path: Path) -> None:
    assert problem(keys_file=path).startswith("API_KEY: is missing")
    add_key(path, expires=datetime.now(UTC) - timedelta(days=1))
    add_key(path, revoked=datetime.now(UTC))
    assert problem(keys_file=path).startswith("API_KEY: is missing")
    add_key(path)
    assert judges(keys_file=path) == ["KeyVerifier"]


def test_a_broken_place_of_keys_does_not_start_even_beside_a_good_key(path: Path) -> None:
    path.write_text("{")
    assert problem(api_key=KEY, keys_file=path).startswith(f"KEYS_FILE: {path} cannot be used")
    sentence = problem(api_key=KEY, keys='{"keys": [{"id": "hunter2"}]}')
    assert sentence.startswith("KEYS: cannot be used")
    assert "hunter2" not in sentence


@pytest.mark.anyio
@pytest.mark.parametrize(("networks", "dialled"), [("", []), ("10.1.0.0/16", [("10.1.2.3", 443)])])
async def test_an_issuer_inside_is_asked_if_its_network_is_named(
    monkeypatch: pytest.MonkeyPatch, networks: str, dialled: list[tuple[str, int]]
) -> None:
    with outside_world(monkeypatch) as outside:
        outside.name("login.example.com", "10.1.2.3")
        settings = load_settings(_env_file=None, oauth_networks=networks, **OAUTH, **INTROSPECTION)
        of_jwts, of_opaque = Parts(settings=settings, name="test", version="").verifiers
        signed = jwt.encode({}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
        for verifier, token in ((of_jwts, signed), (of_opaque, "opaque")):
            outside.dialled.clear()
            with pytest.raises(IssuerUnavailable):
                await verifier.verify(token)
            assert outside.dialled == dialled
