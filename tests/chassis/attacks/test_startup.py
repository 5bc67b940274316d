"""Starting a server that is open, guessable or self-contradictory: it says why not, all at once, and exits with 78."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_chassis import cli
from secure_mcp_server.server import SERVER

KEY = secrets.token_urlsafe(32)
Check = Callable[..., tuple[int, str]]

WEAK_KEYS = {
    "short": secrets.token_urlsafe(16),
    "one character too short": secrets.token_urlsafe(32)[:31],
    "placeholder": "change-me-change-me-change-me-change-me",
    "example": "your-api-key-goes-here-0123456789-abcdef",
    "repeated": "abcabcabcabcabcabcabcabcabcabcabcabcabc",
    "with a space": f"{KEY} {KEY}",
    "non-ASCII": "ключ" * 10,
    "line break": f"{KEY}\nENABLE_AUTH=false",
}

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "no key": ({"API_KEY": ""}, "API_KEY"),
    "auth off beyond loopback": (
        {"ENABLE_AUTH": "false", "HOST": "0.0.0.0", "PUBLIC_URL": "https://mcp.example.com"},
        "HOST",
    ),
    "auth off on every IPv6 address": (
        {"ENABLE_AUTH": "false", "HOST": "::", "PUBLIC_URL": "https://mcp.example.com"},
        "HOST",
    ),
    "beyond loopback without a public URL": ({"HOST": "0.0.0.0"}, "PUBLIC_URL"),
    "a host that only looks like loopback": ({"HOST": "127.0.0.1.evil.example"}, "PUBLIC_URL"),
    "any origin": ({"TRUSTED_ORIGINS": "*"}, "TRUSTED_ORIGINS"),
    "any subdomain": ({"TRUSTED_ORIGINS": "https://*.example.com"}, "TRUSTED_ORIGINS"),
    "null origin": ({"TRUSTED_ORIGINS": "null"}, "TRUSTED_ORIGINS"),
    "origin without a scheme": ({"TRUSTED_ORIGINS": "app.example.com"}, "TRUSTED_ORIGINS"),
    "origin with a path": ({"TRUSTED_ORIGINS": "https://app.example.com/a"}, "TRUSTED_ORIGINS"),
    "origin with a user": ({"TRUSTED_ORIGINS": "https://a@app.example.com"}, "TRUSTED_ORIGINS"),
    "origin with a port that is none": ({"TRUSTED_ORIGINS": "https://app.example.com:99999"}, "TRUSTED_ORIGINS"),
    "one bad origin among good ones": ({"TRUSTED_ORIGINS": "https://a.example.com, *"}, "TRUSTED_ORIGINS"),
    "public URL with a path": ({"PUBLIC_URL": "https://mcp.example.com/mcp"}, "PUBLIC_URL"),
    "proxy that is no network": ({"TRUSTED_PROXIES": "nginx"}, "TRUSTED_PROXIES"),
    "proxy network with host bits": ({"TRUSTED_PROXIES": "10.0.0.1/8"}, "TRUSTED_PROXIES"),
    "blocked client that is no address": ({"BLOCKED_CLIENTS": "203.0.113"}, "BLOCKED_CLIENTS"),
    "endpoint with dots": ({"MCP_ENDPOINT": "/a/../mcp"}, "MCP_ENDPOINT"),
    "endpoint without a slash": ({"MCP_ENDPOINT": "mcp"}, "MCP_ENDPOINT"),
    "endpoint on a probe": ({"MCP_ENDPOINT": "/livez"}, "MCP_ENDPOINT"),
    "endpoint on the events": ({"HEALTH_ENDPOINT": "/security/events"}, "HEALTH_ENDPOINT"),
    "two endpoints on one path": ({"HEALTH_ENDPOINT": "/mcp"}, "HEALTH_ENDPOINT"),
    "burst without a limit": ({"ENABLE_RATE_LIMIT": "false", "RATE_LIMIT_BURST": "5"}, "RATE_LIMIT_BURST"),
    "no requests": ({"MAX_REQUESTS_PER_MINUTE": "0"}, "MAX_REQUESTS_PER_MINUTE"),
    "no deadline": ({"RECEIVE_TIMEOUT": "0"}, "RECEIVE_TIMEOUT"),
    "endless deadline": ({"RECEIVE_TIMEOUT": "inf"}, "RECEIVE_TIMEOUT"),
    "endless body": ({"MAX_BODY_BYTES": "1000000000000"}, "MAX_BODY_BYTES"),
    "a switch that is neither on nor off": ({"ENABLE_AUTH": "maybe"}, "ENABLE_AUTH"),
    "a level that is none": ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL"),
    "a port that is none": ({"PORT": "99999"}, "PORT"),
    "oauth without an issuer": ({"AUTH_MODE": "oauth"}, "OAUTH_ISSUER"),
    "oauth with an issuer anyone can pose as": (
        {"AUTH_MODE": "oauth", "OAUTH_ISSUER": "http://login.example.com"},
        "OAUTH_ISSUER",
    ),
}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Check:
    """Run a command with settings from the environment, in a directory without `.env`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.serve, "configure_logging", lambda *_, **__: None)
    monkeypatch.setattr(cli.serve, "serve", lambda *_: pytest.fail("the server started"))

    def run(command: str = "check", /, **settings: str) -> tuple[int, str]:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        code = cli.run(SERVER, [command])
        streams = capfd.readouterr()
        return code, streams.out + streams.err

    return run


def test_the_settings_that_the_others_break_can_be_used(check: Check) -> None:
    code, said = check(API_KEY=KEY)
    assert code == 0
    assert re.search("OK +authentication +on", said)
    assert KEY not in said


@pytest.mark.parametrize("flaw", REFUSED)
def test_a_server_that_is_not_safe_as_configured_does_not_start(check: Check, flaw: str) -> None:
    settings, name = REFUSED[flaw]
    code, said = check("serve", **({"API_KEY": KEY} | settings))
    assert code == 78
    assert any(line.strip().startswith(f"{name}: ") for line in said.splitlines()), said
    assert KEY not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("flaw", WEAK_KEYS)
def test_a_guessable_key_is_refused_and_not_shown(check: Check, flaw: str) -> None:
    key = WEAK_KEYS[flaw]
    code, said = check("serve", API_KEY=key)
    assert code == 78
    assert "API_KEY: " in said
    assert not any(part in said for part in key.split())


def test_all_problems_are_named_at_once(check: Check) -> None:
    short = secrets.token_urlsafe(8)
    code, said = check(
        API_KEY=short,
        HOST="0.0.0.0",
        TRUSTED_ORIGINS="*",
        PORT="0",
        LOG_LEVEL="LOUD",
        HEALTH_ENDPOINT="/mcp",
        TRUSTED_PROXIES="nginx",
    )
    assert code == 78
    for name in ("API_KEY", "PUBLIC_URL", "TRUSTED_ORIGINS", "PORT", "LOG_LEVEL", "HEALTH_ENDPOINT", "TRUSTED_PROXIES"):
        assert f"{name}: " in said
    assert short not in said


def test_authentication_off_is_said_aloud(check: Check) -> None:
    code, said = check(ENABLE_AUTH="false")
    assert code == 0
    assert re.search("WARN +authentication +OFF", said)


def test_stdio_cannot_be_talked_into_listening(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    monkeypatch.setattr(cli.serve, "serve_stdio", lambda server, _: served.append(server))
    code, _ = check("stdio", HOST="0.0.0.0", ENABLE_AUTH="false")
    assert code == 0
    assert len(served) == 1
