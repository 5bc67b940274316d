"""The report of `check`: what is good, what is worth a look, what keeps the server from starting."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcp_chassis import cli
from mcp_chassis.settings import EXIT_CONFIG
from secure_mcp_server.server import SERVER

from .support.keys import add_key
from .support.running import free_port, new_secret

KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
PUBLIC = {"PUBLIC_URL": "https://mcp.example.com", "HOST": "0.0.0.0"}


class Report:
    """Runs `check` with some settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.code = -1

    def __call__(self, *arguments: str, **settings: str) -> dict[str, str]:
        """Return the lines: what they are about, and the level and text."""
        with self._monkeypatch.context() as patched:
            for name, value in settings.items():
                patched.setenv(name, value)
            self.code = cli.run(SERVER, ["check", *arguments])
        said = self._capsys.readouterr()
        assert KEY not in said.out + said.err
        return {line[6:21].strip(): line for line in said.out.splitlines()}


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    assert cli.run(SERVER, ["tools", "lock"]) == 0
    capsys.readouterr()
    return Report(monkeypatch, capsys)


def test_all_is_well(report: Report) -> None:
    found = report("--port", "8081")
    assert report.code == 0
    assert {line[:4].strip() for line in found.values()} == {"OK"}
    assert "127.0.0.1:8081" in found["settings"]


@pytest.mark.parametrize(
    ("settings", "about", "advice"),
    [
        ({"ENABLE_AUTH": "false"}, "authentication", "Set ENABLE_AUTH=true"),
        ({"ENABLE_RATE_LIMIT": "false"}, "rate limit", "Set ENABLE_RATE_LIMIT=true"),
        ({"ENABLE_REQUEST_LOGGING": "false"}, "request log", "Set ENABLE_REQUEST_LOGGING=true"),
        (PUBLIC | {"PUBLIC_URL": "http://mcp.example.com"}, "TLS", "Use https"),
        (PUBLIC, "proxies", "TRUSTED_PROXIES"),
        (PUBLIC, "environment", "ENVIRONMENT=production"),
        (PUBLIC | {"TRUSTED_ORIGINS": "http://app.example.com"}, "origins", "Use https"),
        ({"TOOLS_LOCK": "elsewhere.json"}, "tools", "`tools check`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_worth_a_look(report: Report, settings: dict[str, str], about: str, advice: str) -> None:
    found = report(**settings)
    assert found[about].startswith("WARN")
    assert advice in found[about]


def test_tools_that_nobody_approved_fail_where_the_server_would_not_start(report: Report) -> None:
    found = report(TOOLS_LOCK="elsewhere.json", ENVIRONMENT="production")
    assert found["tools"].startswith("FAIL")
    assert report.code == EXIT_CONFIG
    assert cli.run(SERVER, ["check"]) == 0


def test_unusable_settings_are_lines_of_the_report(report: Report) -> None:
    found = report(PORT="much", HOST="0.0.0.0")
    assert report.code == EXIT_CONFIG
    assert found["settings"].startswith("FAIL")


@pytest.mark.parametrize(
    ("created", "expires", "said"),
    [
        (0, 90, None),
        (100, 300, "100 days old"),
        (10, 10, "ends in 9 days"),
        (100, -1, None),
        (100, None, "100 days old"),
    ],
)
def test_the_age_of_keys(report: Report, created: int, expires: int | None, said: str | None) -> None:
    now = datetime.now(UTC)
    end = None if expires is None else now + timedelta(days=expires)
    key = add_key(Path("keys.json"), created=now - timedelta(days=created), expires=end)
    found = report(KEYS_FILE="keys.json")
    assert said in found["key age"] if said else "key age" not in found, found
    assert key not in str(found)


def test_a_key_in_env_that_was_never_rotated(report: Report) -> None:
    Path(".env").write_text(f"API_KEY={KEY}\n", encoding="utf-8")
    Path(".env").chmod(0o600)
    assert "key age" not in report()
    long_ago = time.time() - 100 * 86400
    os.utime(".env", (long_ago, long_ago))
    assert "unchanged for 100 days" in report()["key age"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
def test_an_env_file_that_others_may_read(report: Report) -> None:
    Path(".env").write_text(f"API_KEY={KEY}\n", encoding="utf-8")
    Path(".env").chmod(0o644)
    assert "chmod 600" in report()[".env"]


def test_a_redis_that_does_not_answer(report: Report) -> None:
    found = report(REDIS_URL=f"redis://:hunter2@127.0.0.1:{free_port()}/0", STATE_SECRET=new_secret())
    assert found["Redis"].startswith("WARN")
    assert "hunter2" not in str(found)


def test_an_audit_trail_that_can_be_written_and_one_that_cannot(report: Report) -> None:
    secret = {"AUDIT_KEY": new_secret()}
    assert report(AUDIT_FILE="audit.log", **secret)["audit trail"].startswith("OK")
    assert not Path("audit.log").exists()
    assert report(AUDIT_FILE="absent/audit.log", **secret)["audit trail"].startswith("FAIL")
    assert report.code == 1
