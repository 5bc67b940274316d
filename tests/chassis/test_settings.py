"""The switches: safe as they come, and every problem named at once."""

import errno
import os
import re
import secrets
import sys
from datetime import date
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Literal, Self

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_settings import NoDecode, SettingsConfigDict

from mcp_chassis.auth.keys.records import KeysError
from mcp_chassis.auth.keys.store import read_keys
from mcp_chassis.auth.oauth.settings import OAuthSettings
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.http.origins import is_loopback, normal_origin, page_origin, shown
from mcp_chassis.rooms import rooms
from mcp_chassis.settings import Settings, SettingsError, all_fields, cannot_listen, load_settings, misspelled
from mcp_chassis.settings.fields import parts

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"


SECRET, OLD_SECRET = "sYb1q8Vr5nEw2kTz7mXc4jLp9dGf6hAu3oQi", "u3Wk9Zt1xHv6cBn4sJy8eRm2aPd7gLf5qTo0"


UNUSABLE_REDIS = (
    "redis://:hunter2/s3cret@127.0.0.1:6379/0",
    "redis://:hunter2#s3cret@127.0.0.1:6379/0",
    "redis://:hunter2?s3cret@127.0.0.1:6379/0",
    *("redis://[", "redis://h:99999", "redis://h:abc", "redis://h/abc"),
    *("redis://h:6379/0?db=x", "redis://h?socket_timeout=abc", "redis://h?nosuch=1", "redis://h/0#part"),
)


def load(**changes: Any) -> Settings:
    """Load settings that are good but for `changes`, without a `.env`."""
    good: dict[str, Any] = {"_env_file": None, "api_key": KEY}
    return load_settings(**(good | changes))


def problems(**changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load(**changes)
    assert str(error.value) == "\n".join(error.value.problems)
    return error.value.problems


# --- what comes without saying anything ---


def test_the_defaults_are_the_safe_choice() -> None:
    settings = load()
    assert settings.enable_auth
    assert settings.enable_rate_limit
    assert settings.enable_request_logging
    assert is_loopback(settings.host)
    assert settings.trusted_origins == ()
    assert settings.trusted_proxies == ()
    assert not settings.room(OAuthSettings).oauth_allow_http_issuer


def test_settings_cannot_be_changed_and_do_not_show_secrets() -> None:
    settings = load(redis_url="redis://:hunter2@127.0.0.1:6379/0", state_secret=f"{SECRET},{OLD_SECRET}")
    with pytest.raises(ValidationError):
        settings.enable_auth = False
    assert KEY not in repr(settings)
    assert not [secret for secret in ("hunter2", SECRET, OLD_SECRET) if secret in repr(settings)]
    assert settings.secrets == (KEY, "hunter2", SECRET, OLD_SECRET)


# --- where they come from ---


def test_the_environment_wins_over_env_file_and_that_over_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets").mkdir()
    for name, text in {"api_key": KEY, "port": "1001", "log_level": "ERROR", "max_connections": "7"}.items():
        (tmp_path / "secrets" / name).write_text(text)
    (tmp_path / "env").write_text("PORT=1002\nLOG_LEVEL=debug\nHEALTH_ENDPOINT=\n")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "secrets"))
    monkeypatch.setenv("PORT", "1003")
    settings = load_settings(_env_file=tmp_path / "env")
    assert settings.port == 1003
    assert settings.log_level == "DEBUG"
    assert settings.max_connections == 7
    assert settings.secrets == (KEY,)
    assert settings.health_endpoint == "/health", "an empty value means the default"


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_ORIGINS", "https://a.example.com, http://b.example.com:8000/,")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7 ,2001:db8::/32")
    monkeypatch.setenv("BLOCKED_CLIENTS", "203.0.113.9")
    monkeypatch.setenv("OAUTH_NETWORKS", "10.1.0.0/16")
    settings = load()
    assert settings.trusted_origins == ("https://a.example.com", "http://b.example.com:8000")
    assert settings.trusted_proxies == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")))
    assert settings.blocked_clients == (ip_network("203.0.113.9/32"),)
    assert settings.room(OAuthSettings).oauth_networks == (ip_network("10.1.0.0/16"),)


def test_a_file_in_another_encoding_is_a_problem_with_a_sentence(tmp_path: Path) -> None:
    """PowerShell 5 writes UTF-16 with `>`."""
    (tmp_path / "env").write_text(f"API_KEY={KEY}\n", encoding="utf-16")
    assert problems(_env_file=tmp_path / "env") == [f"{tmp_path / 'env'}: is not UTF-8. Save it in that encoding."]


# --- problems ---


def test_every_problem_is_named_at_once() -> None:
    found = problems(api_key=None, host="0.0.0.0", port=0, log_level="loud", trusted_origins="*", max_body_bytes="much")
    assert {problem.partition(":")[0] for problem in found} == {
        *("API_KEY", "PUBLIC_URL", "PORT", "LOG_LEVEL", "TRUSTED_ORIGINS", "MAX_BODY_BYTES")
    }
    assert len(found) == 6


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("tiny-key-tiny", "shorter than 32"),
        ("x" * 40, "placeholder"),
        ("change-me-change-me-change-me-0123456789", "placeholder"),
        ("your-api-key-0123456789-abcdefghijklmnop", "placeholder"),
        ("with a space 0123456789 abcdefghijklmnopq", "cannot carry"),
        ("ключ-ключ-ключ-ключ-ключ-ключ-ключ-ключ", "cannot carry"),
        (KEY + "\n", "cannot carry"),
    ],
)
def test_a_weak_key_is_refused_and_not_repeated(key: str, why: str) -> None:
    (problem,) = problems(api_key=key)
    assert problem.startswith("API_KEY: ")
    assert why in problem
    assert key not in problem


PRODUCTION = {"environment": "production"}
EVERYBODY = (
    *("0.0.0.0/0", "::/0", "0.0.0.0/1,128.0.0.0/1", "10.0.0.0/8,::/1,8000::/1", "2000::/3"),
    "0.0.0.0/4,16.0.0.0/4",
)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"api_key": None}, "API_KEY"),
        ({"host": "0.0.0.0", "enable_auth": False, "public_url": "https://mcp.example.com"}, "HOST"),
        ({"host": "::", "api_key": KEY}, "PUBLIC_URL"),
        ({"host": "192.0.2.7", "api_key": KEY}, "PUBLIC_URL"),
        ({"host": "mcp.example.com", "api_key": KEY}, "PUBLIC_URL"),
        ({"health_endpoint": "/mcp"}, "HEALTH_ENDPOINT"),
        ({"rate_limit_burst": 5, "enable_rate_limit": False}, "RATE_LIMIT_BURST"),
        ({"auth_mode": "oauth"}, "OAUTH_ISSUER"),
        ({"auth_mode": "oauth", "oauth_issuer": "http://127.0.0.1:9000"}, "OAUTH_ISSUER"),
        ({"auth_mode": "oauth", "oauth_issuer": "login.example.com"}, "OAUTH_ISSUER"),
        (
            {"auth_mode": "oauth", "oauth_issuer": "http://login.example.com", "oauth_allow_http_issuer": True},
            "OAUTH_ISSUER",
        ),
        (
            {
                "auth_mode": "oauth",
                "oauth_issuer": "http://127.0.0.1:9000",
                "oauth_allow_http_issuer": True,
                "environment": "production",
            },
            "OAUTH_ISSUER",
        ),
        ({"auth_mode": "oauth", "oauth_issuer": "https://[bad"}, "OAUTH_ISSUER"),
        ({"auth_mode": "oauth", "oauth_issuer": "https://login.example.com:0443"}, "OAUTH_ISSUER"),
        ({"public_url": "https://mcp.example.com:0443"}, "PUBLIC_URL"),
        ({"trusted_origins": "https://app.example.com:0443"}, "TRUSTED_ORIGINS"),
        ({"redis_url": "localhost:6379", "state_secret": SECRET}, "REDIS_URL"),
        ({"redis_url": "https://cache.example.com", "state_secret": SECRET}, "REDIS_URL"),
        *(({"redis_url": url, "state_secret": SECRET}, "REDIS_URL") for url in UNUSABLE_REDIS),
        ({"eval_url": "http://[", "eval_model": "m"}, "EVAL_URL"),
        ({"redis_url": "redis://127.0.0.1"}, "STATE_SECRET"),
        ({"state_secret": "short"}, "STATE_SECRET"),
        ({"state_secret": f"{SECRET},short"}, "STATE_SECRET"),
        ({"state_secret": f"{SECRET}, {SECRET}"}, "STATE_SECRET"),
        ({"replicas": 2}, "REPLICAS"),
        ({"workers": 2}, "WORKERS"),
        ({"trusted_proxies": "10.0.0.1/8"}, "TRUSTED_PROXIES"),
        *(({"trusted_proxies": everybody} | PRODUCTION, "TRUSTED_PROXIES") for everybody in EVERYBODY),
        ({"allowed_hosts": "*"}, "ALLOWED_HOSTS"),
        ({"allowed_hosts": "mcp.internal, https://mcp.internal"}, "ALLOWED_HOSTS"),
        ({"allowed_hosts": "mcp.internal/mcp"}, "ALLOWED_HOSTS"),
        ({"allowed_hosts": "mcp.internal:080"}, "ALLOWED_HOSTS"),
        ({"public_url": "https://example.com/api?x=1"}, "PUBLIC_URL"),
        ({"public_url": "https://example.com/a/../b"}, "PUBLIC_URL"),
        ({"public_url": "https://example.com//api"}, "PUBLIC_URL"),
        ({"public_url": "app://example.com"}, "PUBLIC_URL"),
        ({"trusted_origins": "chrome-extension://*"}, "TRUSTED_ORIGINS"),
        ({"trusted_origins": "file://host"}, "TRUSTED_ORIGINS"),
        ({"blocked_clients": "not-an-address"}, "BLOCKED_CLIENTS"),
        ({"public_url": "https://mcp.example.com/mcp"}, "PUBLIC_URL"),
        ({"mcp_endpoint": "mcp"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/mcp/"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/a/../b"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/mcp\n"}, "MCP_ENDPOINT"),
        ({"health_endpoint": "/livez"}, "HEALTH_ENDPOINT"),
        ({"health_endpoint": "/security/events"}, "HEALTH_ENDPOINT"),
        ({"mcp_endpoint": "/.well-known/mcp"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/a/.well-known/mcp"}, "MCP_ENDPOINT"),
        ({"mcp_endpoint": "/a/.well-known"}, "MCP_ENDPOINT"),
        ({"max_requests_per_minute": 0}, "MAX_REQUESTS_PER_MINUTE"),
        ({"receive_timeout": -1}, "RECEIVE_TIMEOUT"),
    ],
    ids=repr,
)
def test_what_is_unsafe_or_contradicts_itself_is_refused_by_name(changes: dict[str, Any], name: str) -> None:
    (problem,) = problems(**changes)
    assert problem.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"enable_auth": False, "api_key": None},
        {"enable_auth": False, "host": "::1"},
        {"host": "0.0.0.0", "public_url": "https://mcp.example.com"},
        {"auth_mode": "oauth", "oauth_issuer": "https://login.example.com/", "api_key": None},
        {"auth_mode": "oauth", "oauth_issuer": "http://localhost:9000", "oauth_allow_http_issuer": True},
        {"redis_url": "rediss://:secret@cache.example.com:6380/1", "state_secret": SECRET},
        {"redis_url": "redis://user:a%2Fb%23c%40d@[::1]:6379/0?health_check_interval=5", "state_secret": SECRET},
        {"redis_url": "unix:///run/redis.sock?db=1", "state_secret": SECRET},
        {"mcp_endpoint": "/api/v1/mcp"},
        {"trusted_proxies": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7,173.245.48.0/20"} | PRODUCTION,
        {"trusted_proxies": "0.0.0.0/0"},
        {"allowed_hosts": "mcp.default.svc.cluster.local, 10.1.2.3:8080, [::1]:9000"},
    ],
    ids=repr,
)
def test_what_is_safe_starts(changes: dict[str, Any]) -> None:
    load(**changes)


# --- what follows from them ---


def test_the_burst_is_a_minutes_worth_unless_said_otherwise() -> None:
    assert load(max_requests_per_minute=7).burst == 7
    assert load(max_requests_per_minute=7, rate_limit_burst=3).burst == 3


def test_the_server_answers_for_itself_and_its_public_url_only() -> None:
    settings = load(port=8080, public_url="https://MCP.example.com:443/")
    assert settings.own_origins == (
        *("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"),
        "https://mcp.example.com",
    )
    assert set(settings.own_hosts) == {
        *("127.0.0.1:8080", "localhost:8080", "[::1]:8080"),
        *("mcp.example.com", "mcp.example.com:443"),
    }
    assert settings.resource_url == "https://mcp.example.com/mcp"
    assert load(port=8081).resource_url == "http://127.0.0.1:8081/mcp"


def test_a_public_url_may_have_a_path_that_a_proxy_strips() -> None:
    settings = load(public_url="https://Example.com:443/api/")
    assert settings.public_url == "https://example.com/api"
    assert settings.resource_url == "https://example.com/api/mcp"
    assert settings.own_origins[-1] == "https://example.com"
    assert {"example.com", "example.com:443"} < set(settings.own_hosts)


def test_the_default_port_may_be_left_out_of_host() -> None:
    assert {"127.0.0.1", "127.0.0.1:80"} <= set(load(port=80).own_hosts)


# --- origins ---


@pytest.mark.parametrize(
    "text",
    [
        *(
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        ),
        *("vscode-webview://0d7ilmthE2q5oq3c", "app://obsidian.md", "app://-", "tauri://localhost"),
        *("capacitor://localhost", "ionic://localhost", "safari-web-extension://3F2504E0-4F89-11D3-9A0C-0305E82C3301"),
    ],
)
def test_the_origin_of_an_app_is_taken_as_it_is(text: str) -> None:
    assert load(trusted_origins=text).trusted_origins == (text,)


@pytest.mark.parametrize(
    "text",
    ["app://a/b", "app://", "app://*", "APP://a", "app://a b", "app://u@a", "data://a", "wss://a.example", "app:a"],
)
def test_what_only_looks_like_the_origin_of_an_app_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        page_origin(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80/", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://[2001:DB8::1]:3000", "http://[2001:db8::1]:3000"),
        ("http://[2001:db8:0:0::1]", "http://[2001:db8::1]"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_written_as_a_browser_writes_it(text: str, origin: str) -> None:
    assert normal_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "*", "null", "app.example.com", "https://", "https://*.example.com", "https://a.example.com/path"),
        *("https://a.example.com?q", "https://a.example.com?q=1", "https://a.example.com#f", "https://u@a.example.com"),
        *("https://u:p@a.example.com", "https://a.example.com:99999", "https://a.example.com:x", "ftp://a.example.com"),
        *("https://a b.example.com", "https://a_b.example.com", "https://-a.example.com", "https://a..example.com"),
        *("https://[::1", "https://[fe80::1%25eth0]", "https://a.example.com//", "https://a\nb.example.com"),
        *("https://a.example.com:0443", "https://a.example.com:08443", "http://[::1]:080", "https://a.example.com:0"),
        *("https://a.example.com:", "http://[::1]:"),
        *("https://bücher..example", "javascript:alert(1)", "file:///etc/passwd", "https://a.example.com,https://b"),
    ],
)
def test_what_is_not_one_origin_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"origin|xn--"):
        normal_origin(text)


@pytest.mark.parametrize(
    "value",
    [
        *("https://user:hunter2@host.example/a b", "https://user:hunter2/x@y@host.example", "user:hunter2@host:0443"),
        *(
            "ftp://user:hunter2@host",
            "https://user:hunter2@bücher.example",
            "//:hunter2@[",
            "https://a.example,b:hunter2@c",
        ),
        *("https://user:hunter2 xx@host", "https://user:hunter2'x@host", 'https://user:hunter2"x@host', "hunter2@host"),
        *("https://user:hunter2\u00a0x@host", "https://user:hunter2\nx@host", "user:hunter2 x@host"),
        *("https://host/?password=hunter2", "https://user:hunter2", "user:hunter2,x@host", "https://u:p,hunter2@host"),
    ],
)
def test_an_error_about_an_address_does_not_repeat_its_password(value: str) -> None:
    """Whichever setting it was written to. All are tried at once, then those alone that nothing was said of."""
    fields = [*Settings.model_fields, *(name for room in rooms().values() for name in room.settings.model_fields)]
    with pytest.raises(SettingsError) as raised:
        load(**dict.fromkeys(fields, value))
    texts = [str(raised.value)]
    silent = [name for name in fields if f"{name.upper()}:" not in texts[0]]
    assert len(silent) < len(fields) / 2
    for name in silent:
        try:
            load(**{name: value})
        except SettingsError as error:
            texts.append(str(error))
    assert "hunter2" not in "\n".join(texts)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("user:hunter2\n@host:80", "...@host:80"),
        ("https://hunter2'x@[::1]:8080/a?b", "https://...@[::1]:8080/a..."),
    ],
)
def test_an_error_about_an_address_repeats_its_host(host: str, expected: str) -> None:
    assert shown(host) == expected
    error = cannot_listen("PORT", host, 8080, OSError(errno.EADDRINUSE, "in use"))
    assert re.sub(r"\[redacted]@", "...@", str(error)).startswith(f"PORT: another program listens on {expected}:8080. ")


def test_for_an_international_host_the_form_to_write_is_named() -> None:
    with pytest.raises(ValueError, match="xn--"):
        normal_origin("https://bücher.example")


_HOSTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?(\.[A-Za-z]{2,5}){0,2}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)


@given(st.sampled_from(["http", "https", "HTTPS"]), _HOSTS, st.none() | st.integers(1, 65535))
def test_a_normal_origin_is_its_own_normal_form(scheme: str, host: str, port: int | None) -> None:
    origin = normal_origin(f"{scheme}://{host}" + ("" if port is None else f":{port}"))
    assert normal_origin(origin) == origin
    assert origin == origin.lower()


@given(st.text(max_size=30), st.sampled_from(["", "http://", "https://", "https://[", "https://a."]))
def test_any_text_is_an_origin_or_a_value_error(text: str, prefix: str) -> None:
    try:
        origin = normal_origin(prefix + text)
    except ValueError:
        return
    assert normal_origin(origin) == origin
    assert origin.isascii()
    assert origin.isprintable()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("localhost.example.com", False), ("", False)),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_secret_is_in_no_message() -> None:
    found = problems(api_key="tiny-key", redis_url="hunter2", state_secret=SECRET)
    assert len(found) == 2
    assert "tiny-key" not in str(found)
    assert "hunter2" not in str(found)


# --- what an authorization server needs ---

OAUTH = {"auth_mode": "oauth", "oauth_issuer": "https://login.example.com"}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"auth_mode": "oauth"}, ["OAUTH_ISSUER"]),
        (
            {"auth_mode": "oauth", "oauth_client_id": "mcp"},
            ["OAUTH_ISSUER", "OAUTH_INTROSPECTION_URL", "OAUTH_CLIENT_SECRET"],
        ),
        (
            OAUTH | {"oauth_introspection_url": "https://login.example.com/i"},
            ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"],
        ),
        (OAUTH | {"oauth_client_secret": "hunter2"}, ["OAUTH_INTROSPECTION_URL", "OAUTH_CLIENT_ID"]),
        (OAUTH | {"oauth_token_url": "https://login.example.com/t"}, ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"]),
        (
            OAUTH | {"oauth_token_url": "http://a.example/t", "oauth_client_id": "a", "oauth_client_secret": "b"},
            ["OAUTH_TOKEN_URL"],
        ),
        (
            OAUTH | {"oauth_introspection_url": "http://a.example", "oauth_client_id": "a", "oauth_client_secret": "b"},
            ["OAUTH_INTROSPECTION_URL"],
        ),
        (
            {"auth_mode": "oauth", "oauth_issuer": "https://a.example/.well-known/openid-configuration"},
            ["OAUTH_ISSUER"],
        ),
        ({"auth_mode": "oauth", "oauth_issuer": "https://a.example/?tenant=1"}, ["OAUTH_ISSUER"]),
        ({"auth_mode": "oauth", "oauth_issuer": "https://a.example/#x"}, ["OAUTH_ISSUER"]),
        ({"auth_mode": "oauth", "oauth_issuer": "https://u:p@a.example/"}, ["OAUTH_ISSUER"]),
        ({"auth_mode": "oauth", "oauth_issuer": "https://"}, ["OAUTH_ISSUER"]),
        ({"auth_mode": "oauth", "oauth_issuer": "https://a.example:x"}, ["OAUTH_ISSUER"]),
        ({"oauth_issuer": "https://login.example.com"}, ["OAUTH_ISSUER"]),
        ({"oauth_client_secret": "hunter2", "oauth_audience": "x"}, ["OAUTH_AUDIENCE", "OAUTH_CLIENT_SECRET"]),
        ({"max_failed_auth_per_minute": 20, "max_failed_auth_overall": 10}, ["MAX_FAILED_AUTH_OVERALL"]),
        (OAUTH | {"oauth_max_token_lifetime": 0}, ["OAUTH_MAX_TOKEN_LIFETIME"]),
    ],
    ids=repr,
)
def test_what_is_missing_is_said_in_a_sentence_each(changes: dict[str, Any], names: list[str]) -> None:
    found = problems(**changes)
    assert [problem.partition(":")[0] for problem in found] == names
    assert all(problem.endswith(".") or "equal to" in problem for problem in found)
    assert "hunter2" not in str(found)


def test_the_secret_of_the_client_is_one_of_the_secrets() -> None:
    client = {
        "oauth_introspection_url": "https://a.example/i",
        "oauth_client_id": "mcp",
        "oauth_client_secret": "hunter2",
    }
    settings = load(**OAUTH, **client)
    assert "hunter2" in settings.secrets
    assert "hunter2" not in repr(settings)


def test_any_kind_of_key_is_a_key() -> None:
    assert load(api_key=None, keys_file="keys.json").api_key is None
    assert load(api_key=None, keys='{"keys": []}').keys is not None


def test_all_addresses_together_may_fail_ten_times_as_often_as_one() -> None:
    assert load(max_failed_auth_per_minute=7).failed_auth_overall == 70
    assert load(max_failed_auth_overall=15).failed_auth_overall == 15


def test_the_audit_trail_needs_a_key_that_clients_do_not_know() -> None:
    strong = "sT4vQ9xL2mZ7bN1kR6wY3hF8dJ5gC0aP"
    for changes, problem in (
        ({"audit_file": "audit.jsonl"}, "AUDIT_KEY: is missing"),
        ({"audit_file": "audit.jsonl", "audit_key": "short"}, "AUDIT_KEY: is shorter"),
        ({"audit_file": "audit.jsonl", "audit_key": strong, "api_key": strong}, "AUDIT_KEY: is the same as API_KEY"),
        ({"metrics_port": 8080}, "METRICS_PORT: is the same as PORT"),
    ):
        with pytest.raises(SettingsError, match=problem):
            load_settings(**({"_env_file": None, "api_key": "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"} | changes))


# --- the team's own ---


class TeamSettings(Settings):
    """What a team may add."""

    database_url: SecretStr
    max_orders: Annotated[int, Field(ge=1, description="Orders in one list.")] = 10
    regions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_orders > 100 and not self.regions:
            raise ValueError("MAX_ORDERS: more than 100 needs REGIONS")
        return self


def test_a_missing_key_says_whether_there_is_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    with pytest.raises(SettingsError, match=r"There is no \.env in this directory\. .*--env-file"):
        load_settings(_env_file=path)
    path.write_text("PORT=8080\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"^API_KEY: is missing .* Run `python scripts/create_env\.py`\.$"):
        load_settings(_env_file=path)


def test_the_team_s_settings_are_reported_together_with_all_others() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(TeamSettings, _env_file=None, port=0, max_orders=0)
    missing, orders, port, key = sorted(error.value.problems, key=lambda line: "DMPA".index(line[0]))
    assert missing.startswith("DATABASE_URL: is missing, and has no default.")
    assert orders == "MAX_ORDERS: write a whole number from 1."
    assert port.startswith("PORT: ")
    assert key.startswith("API_KEY: is missing"), "rules between the chassis's settings are judged all the same"


PYDANTIC = re.compile(r"should|valid |unable|Value error|Field required|permitted|Invalid|Assertion|parsing")
ACCEPTED = re.compile(
    r"write |Write |Set |Run |Choose|Make one|Leave |Name one|Remove |[Ss]uch as|must (be|begin|start)"
    r"|of the form|other than "
)
WRONG = {
    "empty": "",
    "word": "eighty",
    "negative": "-1",
    "huge": "1e99",
    "JSON": '{"a": [1]}',
    "URL": "ftp://u:pw@h:x/",
}


@pytest.mark.parametrize("name", sorted(all_fields()))
def test_every_error_of_a_setting_says_what_to_write(name: str) -> None:
    """Whatever is wrong with a value, and in no words of pydantic. A value that may be secret is not repeated."""
    found, repeated = list[str](), list[str]()
    for value in WRONG.values():
        try:
            load(**{name: value})
        except SettingsError as error:
            found += [problem for problem in error.problems if problem.startswith(f"{name.upper()}: ")]
            repeated += [value] if is_secret(name) and len(value) > 2 and value in str(error) else []
    assert repeated == []
    assert found or name in FREE
    assert [problem for problem in found if PYDANTIC.search(problem) or not ACCEPTED.search(problem)] == []


FREE = {
    "host",
    "keys",
    "oauth_allowed_clients",
    "eval_model",
    "eval_key",
    "metrics_host",
    "audit_file",
    "oauth_ca_file",
}
"""Any text is taken, or judged later."""


def is_secret(name: str) -> bool:
    return "Secret" in str(all_fields()[name].annotation)


class Size(StrEnum):
    """Of a parcel."""

    SMALL = "S"
    LARGE = "L"


class Tariff(BaseModel):
    """What a parcel costs."""

    price: int


class AnySettings(Settings):
    """Fields of every kind that a team may use."""

    model_config = SettingsConfigDict(arbitrary_types_allowed=True)

    regions: tuple[str, ...] = ()
    numbers: Annotated[tuple[int, ...], NoDecode, BeforeValidator(parts)] = ()
    prices: dict[str, int] | None = None
    tariff: Tariff | None = None
    size: Size | None = None
    only: Literal["a"] = "a"
    pin: Annotated[SecretStr, Field(min_length=4, max_length=8)] = SecretStr("0000")
    word: Annotated[str, Field(pattern="^[a-z]+$")] = "a"
    ratio: Annotated[float, Field(ge=0, lt=1)] = 0
    day: date = date(2020, 1, 1)
    either: int | bool = 1
    lock: Event | None = None  # no type of JSON
    renamed: Annotated[int, Field(alias="OTHER_NAME")] = 1


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("REGIONS", "eu,us", "a list in JSON, in square brackets"),
        ("NUMBERS", "1,x,y", "a whole number, or several with commas between them"),
        ("PRICES", "7", "an object in JSON, in braces"),
        ("TARIFF", "[", "an object in JSON, in braces"),
        ("SIZE", "M", "one of S, L"),
        ("ONLY", "b", "one of a"),
        ("PIN", "123", "a text of at least 4 characters of at most 8 characters"),
        ("WORD", "A", "a text of the pattern ^[a-z]+$"),
        ("RATIO", "1", "a number from 0 below 1"),
        ("DAY", "today", "a text of the form date"),
        ("EITHER", "x", "a whole number or true or false"),
        ("LOCK", "x", "another value"),
        ("OTHER_NAME", "x", "a whole number"),
    ],
)
def test_an_error_of_a_team_s_setting_says_what_to_write(
    name: str, value: str, accepted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several errors of one field are one line."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings(AnySettings, _env_file=None, api_key=KEY)
    assert error.value.problems == [f"{name}: write {accepted}."]


def test_an_error_of_the_team_does_not_repeat_a_password_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_url(value: str) -> str:
        raise ValueError(f"{value} is not served by us")

    class Own(Settings):
        warehouse: Annotated[str, BeforeValidator(refuse_url)] = ""

    monkeypatch.setenv("WAREHOUSE", "postgres://desk:hunter2@db.internal/orders")
    with pytest.raises(SettingsError) as error:
        load_settings(Own, _env_file=None, api_key=KEY)
    assert error.value.problems == ["WAREHOUSE: postgres://[redacted]@db.internal/orders is not served by us"]


def refuse(value: str) -> str:
    if value:
        raise ValueError
    return value


class Line(BaseModel):
    """Of an order."""

    count: int


Hour = Annotated[int, Field(ge=1)]


class RuledSettings(Settings):
    """Fields with rules that a type does not express."""

    boxes: Annotated[int, Field(ge=0, multiple_of=7)] = 0
    days: Annotated[tuple[int, ...], Field(min_length=3)] = (1, 2, 3)
    hours: Annotated[tuple[Hour, ...], NoDecode, Field(max_length=2), BeforeValidator(parts)] = ()
    rates: Annotated[dict[str, int], Field(max_length=1)] | None = None
    order_lines: tuple[Line, ...] = ()
    report: FilePath | None = None
    since: Annotated[date, Field(gt=date(2020, 1, 1))] = date(2021, 1, 1)
    sizes: tuple[ByteSize, ...] = ()
    code: Annotated[str, BeforeValidator(refuse)] = ""


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("BOXES", "5", "write a whole number from 0 that is a multiple of 7."),
        ("DAYS", "[1]", "write a list in JSON, in square brackets with at least 3 items."),
        (
            "DAYS",
            '[1, 2, 3, "hunter2"]',
            "in 3: Input should be a valid integer, unable to parse string as an integer.",
        ),
        ("HOURS", "1,2,3", "write a whole number from 1, or several with commas between them with at most 2 items."),
        ("RATES", '{"hunter2": 1, "b": 2}', "Dictionary should have at most 1 item after validation"),
        ("RATES", '{"hunter2": "x"}', "Input should be a valid integer, unable to parse string as an integer."),
        ("ORDER_LINES", '[{"hunter2": 1}]', "in 0: in count: Field required."),
        ("REPORT", "hunter2", "Path does not point to a file."),
        ("SINCE", "2019-01-01", "Input should be greater than 2020-01-01."),
        ("SIZES", '["1 hunter"]', "in 0: write another value."),
        ("CODE", "hunter2", "is refused. Write another value."),
    ],
)
def test_a_broken_rule_of_a_team_s_setting_is_named(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the value, even where pydantic repeats it."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        load_settings(RuledSettings, _env_file=None, api_key=KEY)
    (problem,) = error.value.problems
    assert problem.startswith(f"{name}: {sentence}")
    assert "hunter" not in problem


@pytest.mark.parametrize(
    "kind",
    [
        Annotated[int, Field(json_schema_extra={"type": ["integer", "string"]})],
        *(Annotated[int, WithJsonSchema({"type": ["integer", "null"]})], Annotated[int, WithJsonSchema({"$ref": 5})]),
        Annotated[int, WithJsonSchema({"anyOf": [True]})],
        Annotated[tuple[int, ...], NoDecode, WithJsonSchema({"type": "array", "items": True})],
        Annotated[int, WithJsonSchema(True)],  # type: ignore[arg-type]
        Annotated[tuple[int, ...], NoDecode, SkipJsonSchema()],  # type: ignore[type-arg]
    ],
)
def test_a_schema_of_the_team_s_own_gives_a_sentence(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = type("OddSettings", (Settings,), {"__annotations__": {"odd": kind}, "__module__": __name__})
    monkeypatch.setenv("ODD", "hunter2")
    with pytest.raises(SettingsError, match=r"^ODD: write (another value|a list in JSON, in square brackets)\.$"):
        load_settings(odd, _env_file=None, api_key=KEY)


MISSPELLED = {
    "MAX_REQUEST_PER_MINUTE": "MAX_REQUESTS_PER_MINUTE",
    "max_requests_per_minut": "MAX_REQUESTS_PER_MINUTE",
    "TRUSTED_ORIGIN": "TRUSTED_ORIGINS",
    "ENABLE_AUHT": "ENABLE_AUTH",
    "ENVIROMENT": "ENVIRONMENT",
    "MAX_ORDER": "MAX_ORDERS",
}
USUAL = """
    PATH HOME USER USERNAME LOGNAME SHELL TERM LANG LANGUAGE LC_ALL LC_CTYPE PWD OLDPWD SHLVL TMPDIR TMP TEMP TZ DISPLAY
    EDITOR PAGER HOSTNAME HOST HOSTTYPE HOSTS PORT PORTS HTTP_PORT SERVER_PORT APP_PORT LISTEN_PORT BIND_ADDRESS _ PS1
    XDG_RUNTIME_DIR XDG_CONFIG_HOME SSH_AUTH_SOCK SSH_CLIENT SUDO_USER COLORTERM NO_COLOR FORCE_COLOR COLUMNS LINES
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    PYTHONPATH PYTHONHOME PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE PYTHONHASHSEED PYTHON_VERSION PYTHON_PIP_VERSION
    PYTHON_SHA256 GPG_KEY VIRTUAL_ENV CONDA_PREFIX PIP_INDEX_URL PIP_NO_CACHE_DIR UV_CACHE_DIR UV_PROJECT_ENVIRONMENT
    PYTEST_CURRENT_TEST WEB_CONCURRENCY UVICORN_HOST UVICORN_PORT GUNICORN_CMD_ARGS DJANGO_SETTINGS_MODULE FLASK_ENV
    KUBERNETES_PORT KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_PORT_443_TCP_PORT
    KUBERNETES_PORT_443_TCP_PROTO KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS
    POD_NAME POD_NAMESPACE POD_IP NODE_NAME SERVICE_ACCOUNT REDIS_HOST REDIS_PORT REDIS_URI REDIS_PASSWORD
    REDIS_SERVICE_HOST REDIS_SERVICE_PORT REDIS_PORT_6379_TCP REDIS_PORT_6379_TCP_ADDR METRICS_PATH METRICS_SERVICE_HOST
    POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB PGHOST PGPORT PGUSER DB_HOST DB_PORT DATABASE_HOST DATABASE_NAME
    DOCKER_HOST DOCKER_BUILDKIT COMPOSE_PROJECT_NAME CONTAINER_NAME IMAGE_TAG DEBIAN_FRONTEND
    CI GITHUB_ACTIONS GITHUB_TOKEN GITHUB_REF GITHUB_SHA GITHUB_REPOSITORY GITHUB_WORKSPACE GITHUB_ENV GITHUB_EVENT_NAME
    RUNNER_OS RUNNER_TEMP GITLAB_CI CI_COMMIT_SHA CI_JOB_TOKEN CI_ENVIRONMENT_NAME CI_PROJECT_ID BUILD_NUMBER BUILD_ID
    JENKINS_URL JOB_NAME CIRCLECI TRAVIS BUILDKITE TF_BUILD AGENT_OS
    API_TOKEN API_KEYS APIKEY API_URL API_KEY_FILE OPENAI_API_KEY ANTHROPIC_API_KEY GEMINI_API_KEY SECRET_KEY AUTH_TOKEN
    LOG_DIR LOG_FILE LOG_PATH LOGLEVEL LOGGING_LEVEL DEBUG DEBUG_LEVEL VERBOSE ENV APP_ENV NODE_ENV STAGE
    ENVIRONMENT_NAME
    OAUTH2_PROXY_CLIENT_ID OAUTH2_PROXY_CLIENT_SECRET GITHUB_OAUTH_CLIENT_ID CLIENT_ID CLIENT_SECRET OIDC_ISSUER_URL
    OTEL_SERVICE_NAME OTEL_EXPORTER_OTLP_HEADERS OTEL_EXPORTER_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT OTEL_EXPORTER_OTLP_TIMEOUT OTEL_RESOURCE_ATTRIBUTES PROMETHEUS_MULTIPROC_DIR
    AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN GOOGLE_APPLICATION_CREDENTIALS AZURE_CLIENT_ID
    K_SERVICE K_REVISION DYNO RENDER FLY_APP_NAME WORKER WORKER_ID WORKERS_COUNT REPLICA REPLICA_ID KEY KEY_FILE KEYFILE
    TLS_KEY_FILE CERT_FILE CONNECT_TIMEOUT READ_TIMEOUT REQUEST_TIMEOUT TIMEOUT MAX_WORKERS MAX_MEMORY
    INVOCATION_ID JOURNAL_STREAM NOTIFY_SOCKET LISTEN_FDS CREDENTIALS_DIRECTORY SYSTEMROOT APPDATA PROGRAMFILES COMSPEC
""".split()


def test_a_misspelled_setting_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MISSPELLED:
        monkeypatch.setenv(name, "7")
    found = [
        sentence
        for _, sentence in misspelled(load_settings(TeamSettings, _env_file=None, database_url="x", api_key=KEY))
    ]
    assert sorted(found) == sorted(
        f"{name.upper()} is no setting. Did you mean {meant}?" for name, meant in MISSPELLED.items()
    )


def test_a_misspelled_file_of_secrets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("databse_url", "ca.crt", "token", "namespace"):
        (tmp_path / name).touch()
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings = load_settings(TeamSettings, _env_file=None, database_url="x", api_key=KEY)
    assert list(misspelled(settings)) == [("secrets", "DATABSE_URL is no setting. Did you mean DATABASE_URL?")]


def test_usual_names_of_other_programs_are_no_misspelled_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load()
    for name in USUAL:
        monkeypatch.setenv(name, "8000")
    assert len(USUAL) > 200
    assert list(misspelled(settings)) == []


def test_a_rule_of_the_team_is_a_sentence_too() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(TeamSettings, _env_file=None, api_key=KEY, database_url="x", max_orders=101)
    assert error.value.problems == ["settings: MAX_ORDERS: more than 100 needs REGIONS"]


def test_a_secret_of_the_team_may_be_a_file_and_is_kept_out_of_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a URL the password: the host is in the error messages that an operator needs."""
    password = f"pw-{KEY[::-1]}"
    (tmp_path / "database_url").write_text(f"postgresql://app:{password}@db.internal:5432/orders\n")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    settings = load_settings(TeamSettings, _env_file=None, api_key=KEY)
    assert settings.database_url.get_secret_value().endswith("@db.internal:5432/orders")
    assert settings.secrets == (KEY, password)
    configure_logging("INFO", log_format="json", secrets=settings.secrets)
    structlog.get_logger("team").info(f"connecting with {password} to db.internal:5432")
    said = capfd.readouterr().err
    assert password not in said
    assert "db.internal:5432" in said


# --- files that cannot be read ---


@pytest.mark.parametrize(
    ("name", "text"),
    [("api_key", b"\xff\xfe"), ("database_url", b"\xff\xfe"), ("redis_url", b"\xff\xfe")],
)
def test_a_secret_file_that_cannot_be_read_is_a_sentence(
    name: str, text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(text)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError) as error:
        load_settings(TeamSettings, _env_file=None)
    assert error.value.problems == [f"{tmp_path / name}: cannot be read as text in UTF-8. Repair or remove it."]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
def test_files_without_the_right_to_be_read_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "api_key").write_text(KEY)
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "read_text", refuse)
    assert "api_key: cannot be read" in problems(api_key=None)[0]
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert problems()[0].startswith("SECRETS_DIR: ")
    monkeypatch.setenv("SECRETS_DIR", os.devnull)
    monkeypatch.setattr("mcp_chassis.settings.dotenv_values", refuse)
    (tmp_path / ".env").write_text("PORT=1\n")
    assert problems(_env_file=tmp_path / ".env") == [
        f"{tmp_path / '.env'}: cannot be read (Permission denied). Correct its rights."
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such rights")
@pytest.mark.parametrize("name", ["keys_file", "tools_lock", "events_file"])
@pytest.mark.parametrize("method", ["exists", "is_file"])
def test_a_file_behind_a_closed_directory_is_a_sentence(
    name: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rights are faked, because root may do everything."""
    (tmp_path / "file").touch()
    original = getattr(Path, method)

    def refuse(self: Path, **options: Any) -> bool:
        if self == tmp_path / "file":
            raise PermissionError(13, "Permission denied", str(self))
        return bool(original(self, **options))

    monkeypatch.setattr(Path, method, refuse)
    assert problems(**{name: tmp_path / "file"}) == [
        f"{name.upper()}: cannot be reached: Permission denied. Correct the path, or the rights on the way"
    ]


def test_a_directory_of_secrets_behind_a_closed_one_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "is_dir", refuse)
    assert problems() == [f"SECRETS_DIR: {tmp_path} cannot be read (Permission denied). Correct its rights."]


def test_a_name_of_a_file_that_is_too_long_is_a_sentence(tmp_path: Path) -> None:
    (problem,) = problems(tools_lock=tmp_path / ("a" * 300))
    assert problem.startswith("TOOLS_LOCK: cannot be reached: ")


@pytest.mark.parametrize("name", ["redis_url", "eval_url", "oauth_proxy", "oauth_jwks_url"])
@given(text=st.text(min_size=1, max_size=40) | st.from_regex(r"[a-z]{2,6}://[^ ]{0,30}", fullmatch=True))
def test_any_text_as_a_url_is_one_or_a_sentence_without_its_password(name: str, text: str) -> None:
    password = secrets.token_hex(8)
    for url in (text, text.replace("://", f"://u:{password}@"), f"redis://:{password}/{text}@127.0.0.1/0"):
        said = ""
        try:
            load(**{name: url, "state_secret": SECRET, "eval_model": "m"})
        except SettingsError as error:
            said = str(error)
        assert password not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no FIFO in the file system")
@pytest.mark.parametrize("name", ["keys_file", "tools_lock"])
def test_a_fifo_in_place_of_a_file_does_not_block_the_start(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert problems(**{name: tmp_path / "fifo"}) == [
        f"{name.upper()}: is not a regular file. Name one, or one that does not exist yet"
    ]
    with pytest.raises(KeysError, match="not a regular file"):
        read_keys(tmp_path / "fifo")


# --- usual words ---


@pytest.mark.parametrize(
    ("name", "word", "meant"),
    [
        *(("log_level", word, "WARNING") for word in ("warn", "WARN", "Warning")),
        ("log_level", "fatal", "CRITICAL"),
        ("log_level", "trace", "DEBUG"),
        *(("environment", word, "production") for word in ("prod", "PROD", "Production", "live")),
        *(("environment", word, "development") for word in ("dev", "local")),
        ("log_format", "text", "console"),
        ("log_format", "JSON", "json"),
    ],
)
def test_usual_words_are_understood(name: str, word: str, meant: str) -> None:
    assert getattr(load(**{name: word}), name) == meant


def test_other_words_are_refused() -> None:
    assert len(problems(log_level="loud", environment="staging", log_format="xml")) == 3
