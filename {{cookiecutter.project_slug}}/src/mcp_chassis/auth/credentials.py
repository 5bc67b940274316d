"""Makes, from the settings, whoever judges credentials. What cannot be used keeps the server from starting."""

from collections import ChainMap
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from ..settings import Settings, SettingsError
from .keys.api_key import ApiKeyVerifier
from .keys.format import key_lengths, may_be_key
from .keys.records import KeyRecord, KeysError, parse_records
from .keys.store import KeysFile
from .keys.verifier import KeyVerifier
from .verifier import Verifier


@dataclass(frozen=True)
class Credentials:
    """What judges bearer tokens, in the order in which they are asked, and what to tell an operator."""

    verifiers: tuple[Verifier, ...]
    keys_file: KeysFile | None = None
    records: Callable[[], Mapping[str, KeyRecord]] = dict
    """Returns the keys there are now, by id."""

    def revoked(self) -> list[str]:
        """Return the ids of keys that are revoked now."""
        return [record.id for record in self.records().values() if record.revoked is not None]

    def problems(self) -> list[str]:
        """Return what has broken since the start."""
        problem = self.keys_file.problem() if self.keys_file is not None else None
        return [problem] if problem is not None else []


def make_credentials(settings: Settings, revoked: Container[str] = frozenset()) -> Credentials:
    """Return the judges. Keys go first: comparing digests is cheaper than checking a signature or asking the issuer.

    Args:
        revoked: ids of keys that were revoked elsewhere.

    Raises:
        SettingsError: if keys cannot be read, or authentication is on and nothing could ever be accepted.
    """
    verifiers: list[Verifier] = []
    if settings.api_key is not None:
        verifiers.append(ApiKeyVerifier(settings.api_key.get_secret_value()))
    keys_file, fixed = _keys_file(settings), fixed_keys(settings)

    def records() -> Mapping[str, KeyRecord]:
        # A key that is revoked in the file stays revoked, whatever an older copy in the settings says.
        return fixed if keys_file is None else ChainMap(keys_file.records(), fixed)

    # Even without any key: what begins like one is nothing else.
    verifiers.append(KeyVerifier(records, revoked))
    any_valid = any(record.state(datetime.now(UTC)) == "valid" for record in records().values())
    if settings.auth_mode == "oauth" and settings.oauth_issuer is not None:
        verifiers += _oauth(settings, settings.oauth_issuer)
    elif settings.enable_auth and settings.api_key is None and not any_valid:
        raise SettingsError(
            [
                "API_KEY: is missing while ENABLE_AUTH is true, and KEYS_FILE and KEYS hold no key that is valid now. "
                "Run `python scripts/create_env.py`, or `keys create --name ci --scopes notes:read`."
            ]
        )
    return Credentials(tuple(verifiers), keys_file, records)


def _keys_file(settings: Settings) -> KeysFile | None:
    if settings.keys_file is None:
        return None
    try:
        return KeysFile(settings.keys_file)
    except KeysError as error:
        raise SettingsError(
            [f"KEYS_FILE: {settings.keys_file} cannot be used: {error}. Repair or restore it."]
        ) from None


def fixed_keys(settings: Settings) -> dict[str, KeyRecord]:
    """Return the keys in the setting `KEYS`, by id.

    Raises:
        SettingsError: if it cannot be read.
    """
    try:
        return parse_records(settings.keys.get_secret_value()) if settings.keys is not None else {}
    except KeysError as error:
        raise SettingsError([f"KEYS: cannot be used: {error}. It holds the text of a keys file."]) from None


def _oauth(settings: Settings, issuer: str) -> list[Verifier]:
    # Here, because PyJWT and what asks the issuer are a tenth of the start of a server that needs neither.
    from .oauth.introspection import IntrospectionVerifier  # noqa: PLC0415
    from .oauth.jwks import IssuerKeys, issuer_fetcher  # noqa: PLC0415
    from .oauth.jwt_verifier import JwtVerifier  # noqa: PLC0415

    api_key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    audience = settings.oauth_audience or settings.resource_url
    keys = IssuerKeys(issuer, networks=settings.oauth_networks)
    lifetime = settings.oauth_max_token_lifetime
    verifiers: list[Verifier] = [JwtVerifier(issuer=issuer, audience=audience, keys=keys, max_lifetime=lifetime)]
    if settings.oauth_introspection_url is not None and settings.oauth_client_secret is not None:
        verifiers.append(
            IntrospectionVerifier(
                settings.oauth_introspection_url,
                client_id=settings.oauth_client_id or "",
                client_secret=settings.oauth_client_secret.get_secret_value(),
                issuer=issuer,
                audience=audience,
                fetcher=issuer_fetcher(settings.oauth_introspection_url, settings.oauth_networks),
                may_be_key=partial(
                    may_be_key, lengths=() if settings.oauth_allow_key_like_tokens else key_lengths(api_key)
                ),
            )
        )
    return verifiers
