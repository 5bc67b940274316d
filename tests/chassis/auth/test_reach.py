"""The way to the issuer: a certificate authority of the company, a proxy in between, keys without discovery."""

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs

from mcp_chassis.auth.oauth.jwks import IssuerKeys, IssuerUnavailable
from mcp_chassis.auth.oauth.reach import Reach
from mcp_chassis.auth.oauth.settings import OAuthSettings
from mcp_chassis.parts import Parts
from mcp_chassis.settings import SettingsError, load_settings
from mcp_chassis.sinks import http

from ..support.certificates import Authority
from ..support.issuer import METADATA, public_jwk
from ..support.outside import PUBLIC, Outside, Server, answers, reply
from ..support.proxy import Proxy, running_proxy

pytestmark = pytest.mark.anyio

HOST = "login.example.com"
ISSUER = f"https://{HOST}"
PLACE = f"{HOST}:443"
AUDIENCE = "https://mcp.example.com/mcp"
KEY = ec.generate_private_key(ec.SECP256R1())
EXCHANGED = "token-of-the-service"


def documents(issuer: str = ISSUER) -> dict[str, Any]:
    """Return what an issuer answers, by paths."""
    return {
        METADATA: {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
        "/keys": {"keys": [public_jwk(KEY, "key-1")]},
        "/introspect": {"active": True, "aud": AUDIENCE, "sub": "bob", "scope": "notes:read"},
        "/token": {
            "access_token": EXCHANGED,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
        },
    }


@pytest.fixture
def ca_file(tmp_path: Path, authority: Authority) -> Path:
    path = tmp_path / "company.pem"
    path.write_bytes(authority.pem)
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issuer(authority: Authority) -> Iterator[Server]:
    found = documents()

    def handle(connection: socket.socket, head: bytes) -> None:
        lines, _, body = head.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", lines, re.IGNORECASE)
        while length is not None and len(body) < int(length[1]):  # closing before that would reset the connection
            body += connection.recv(65536)
        path = lines.split()[1].decode()
        connection.sendall(reply(json.dumps(found[path]).encode()) if path in found else reply(status="404 No"))

    server = Server(handle, context=authority.server_context(HOST))
    yield server
    server.close()


@pytest.fixture
def proxy(issuer: Server) -> Iterator[Proxy]:
    with running_proxy({PLACE: issuer.port}) as proxy:
        yield proxy


def token() -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300}
    return jwt.encode(claims, KEY, algorithm="ES256", headers={"kid": "key-1"})


def paths(server: Server) -> list[str]:
    return [head.split()[1].decode() for head in server.requests]


async def test_an_issuer_with_a_certificate_of_the_company(outside: Outside, issuer: Server, ca_file: Path) -> None:
    outside.site(HOST, PUBLIC, issuer)
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(ISSUER).key("key-1")
    assert await IssuerKeys(ISSUER, Reach(ca_file=ca_file)).key("key-1") is not None


async def test_another_authority_is_not_trusted_beside_the_file(
    outside: Outside, issuer: Server, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other.pem"
    other.write_bytes(Authority(tmp_path / "other").pem)
    outside.site(HOST, PUBLIC, issuer)
    with pytest.raises(IssuerUnavailable):
        await IssuerKeys(ISSUER, Reach(ca_file=other)).key("key-1")


async def test_ssl_cert_file_of_the_environment(
    outside: Outside, issuer: Server, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    http.system_authorities.cache_clear()
    try:
        outside.site(HOST, PUBLIC, issuer)
        assert await IssuerKeys(ISSUER).key("key-1") is not None
    finally:
        http.system_authorities.cache_clear()


async def test_keys_introspection_and_exchange_go_through_the_proxy_which_resolves_the_name(
    outside: Outside, issuer: Server, proxy: Proxy, ca_file: Path
) -> None:
    settings = load_settings(
        _env_file=None,
        api_key=None,
        auth_mode="oauth",
        public_url="https://mcp.example.com",
        oauth_issuer=ISSUER,
        oauth_ca_file=ca_file,
        oauth_proxy=proxy.url,
        oauth_introspection_url=f"{ISSUER}/introspect",
        oauth_token_url=f"{ISSUER}/token",
        oauth_client_id="mcp",
        oauth_client_secret="s" * 32,
    )
    of_jwts, of_opaque = Parts(settings=settings, name="test", version="").verifiers
    signed = token()
    found = [await of_jwts.verify(signed), await of_opaque.verify("opaque")]
    assert [principal and principal.id for principal in found] == ["oauth:alice", "oauth:bob"]
    act = of_jwts.act_for(signed)
    assert act is not None
    assert await act("https://stock.internal", ()) == EXCHANGED
    assert paths(issuer) == [METADATA, "/keys", "/introspect", "/token"]
    assert proxy.asked == [PLACE] * 4
    assert outside.lookups == []
    assert set(outside.dialled) == {("127.0.0.1", proxy.port), ("127.0.0.1", issuer.port)}


@pytest.mark.parametrize(
    ("environment", "proxy_of_issuer"),
    [
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "example.org"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128", "ALL_PROXY": "http://proxy:3128"}, None),
    ],
    ids=str,
)
def test_the_proxy_of_the_environment(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy_of_issuer: str | None
) -> None:
    """`outside` has cleared what this machine sets. Nothing of it is used for an issuer on this machine."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Reach().fetcher(ISSUER).proxy == proxy_of_issuer
    assert Reach().fetcher("http://127.0.0.1:9000").proxy is None


async def test_the_proxy_of_the_environment_is_asked(
    outside: Outside, proxy: Proxy, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert await IssuerKeys(ISSUER, Reach(ca_file=ca_file)).key("key-1") is not None
    assert proxy.asked == [PLACE] * 2


async def test_the_setting_wins_over_the_environment(
    outside: Outside, proxy: Proxy, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", HOST)
    assert await IssuerKeys(ISSUER, Reach(ca_file=ca_file, proxy=proxy.url)).key("key-1") is not None


async def test_a_proxy_that_wants_a_password_gets_it_and_no_log_does(
    outside: Outside, issuer: Server, ca_file: Path
) -> None:
    credential = "Basic " + base64.b64encode(b"me:hunter2/x").decode()
    with running_proxy({PLACE: issuer.port}, credential=credential) as proxy, capture_logs() as logged:
        for password, is_right in (("hunter2%2Fx", True), ("hunter3", False)):
            url = proxy.url.replace("//", f"//me:{password}@")
            settings = load(oauth_ca_file=ca_file, oauth_proxy=url)
            assert password.replace("%2F", "/") in settings.secrets
            own = settings.room(OAuthSettings)
            keys = IssuerKeys(ISSUER, own.reach)
            if is_right:
                assert await keys.key("key-1") is not None
            else:
                with pytest.raises(IssuerUnavailable):
                    await keys.key("key-1")
            assert "hunter" not in repr(own) + repr(own.reach)
    assert logged
    assert "hunter" not in str(logged)


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/keys", "https://169.254.169.254/keys", "https://localhost/keys", "https://[::1]/keys"]
)
async def test_a_proxy_is_not_asked_for_what_the_text_shows_to_be_inside(
    outside: Outside, authority: Authority, ca_file: Path, url: str
) -> None:
    """An issuer that was taken over would otherwise reach the metadata service through the proxy."""
    found = documents() | {METADATA: {"issuer": ISSUER, "jwks_uri": url}}
    server = Server(
        answers(lambda path: reply(json.dumps(found.get(path, {})).encode())), context=authority.server_context(HOST)
    )
    with running_proxy({PLACE: server.port}) as proxy:
        with pytest.raises(IssuerUnavailable):
            await IssuerKeys(ISSUER, Reach(ca_file=ca_file, proxy=proxy.url)).key("key-1")
        assert proxy.asked == [PLACE]
    server.close()


async def test_an_internal_name_behind_a_proxy_needs_a_network(outside: Outside, authority: Authority) -> None:
    with running_proxy({}) as proxy:
        for networks, asked in (((), []), ("10.0.0.0/8", ["login.internal:443"])):
            settings = load(oauth_issuer="https://login.internal", oauth_proxy=proxy.url, oauth_networks=networks)
            with pytest.raises(IssuerUnavailable):
                await IssuerKeys("https://login.internal", settings.room(OAuthSettings).reach).key("key-1")
            assert proxy.asked == asked


async def test_keys_without_discovery(outside: Outside, issuer: Server, ca_file: Path) -> None:
    outside.site(HOST, PUBLIC, issuer)
    keys = IssuerKeys("https://elsewhere.example.com/tenant", Reach(ca_file=ca_file), url=f"{ISSUER}/keys")
    assert await keys.key("key-1") is not None
    assert paths(issuer) == ["/keys"]


def load(**changes: Any) -> Any:
    return load_settings(_env_file=None, **({"auth_mode": "oauth", "oauth_issuer": ISSUER} | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"oauth_ca_file": "missing.pem"}, "OAUTH_CA_FILE or OAUTH_PROXY: missing.pem cannot be read, or holds no"),
        ({"oauth_proxy": "socks5://127.0.0.1:1080"}, "OAUTH_CA_FILE or OAUTH_PROXY: the URL of the proxy is not"),
        ({"oauth_proxy": "http://me:hunter2@"}, "OAUTH_CA_FILE or OAUTH_PROXY: the URL of the proxy is not"),
        ({"oauth_jwks_url": "http://login.example.com/keys"}, "OAUTH_JWKS_URL: must start with https://"),
    ],
)
def test_a_way_that_cannot_be_used_is_named_at_the_start(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(**changes)
    assert str(error.value).startswith(sentence)
    assert "hunter2" not in str(error.value)


def test_a_url_of_keys_may_have_a_query() -> None:
    """Azure AD B2C names the policy there."""
    load(oauth_jwks_url=f"{ISSUER}/keys?p=b2c_1_sign_in")
