"""The report of `check`: what is good, what is worth a look, what keeps the server from starting."""

import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from mcp_chassis import Service, cli, rooms, tool
from mcp_chassis.cli import check
from mcp_chassis.settings import EXIT_CONFIG, Settings
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
        self.service = SERVER
        self.code = -1
        self.said = ""

    def __call__(self, *arguments: str, **settings: str) -> dict[str, str]:
        """Return the lines: what they are about, and the level and text."""
        with self._monkeypatch.context() as patched:
            for name, value in settings.items():
                patched.setenv(name, value)
            self.code = cli.run(self.service, ["check", *arguments])
        said = self._capsys.readouterr()
        assert KEY not in said.out + said.err
        self.said = said.out
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
    assert [line for line in found.values() if not line.startswith("OK")] == []
    assert "127.0.0.1:8081" in found["settings"]


@pytest.mark.parametrize(
    ("settings", "about", "advice"),
    [
        ({"ENABLE_AUTH": "false"}, "authentication", "Set ENABLE_AUTH=true"),
        ({"ENABLE_RATE_LIMIT": "false"}, "rate limit", "Set ENABLE_RATE_LIMIT=true"),
        ({"ENABLE_REQUEST_LOGGING": "false"}, "request log", "Set ENABLE_REQUEST_LOGGING=true"),
        (PUBLIC | {"PUBLIC_URL": "http://mcp.example.com"}, "TLS", "Use https"),
        (PUBLIC, "proxies", "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "0.0.0.0/1,128.0.0.0/1"}, "proxies", "the proxies' own networks only"),
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


def test_unapproved_tools_fail_where_the_server_would_not_start(report: Report) -> None:
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


def secret_files(directory: Path) -> dict[str, tuple[Path, dict[str, str]]]:
    """Make every file that holds secrets, alone in a directory. Return where it is, and the setting that names it."""
    files = {}
    names = {".env": ".env", "keys file": "keys.json", "secrets": "audit_key", "audit file": "audit.log"}
    for about, name in names.items():
        path = directory / about.replace(" ", "-").strip(".") / name
        path.parent.mkdir(mode=0o700)
        files[about] = path
    add_key(files["keys file"])
    for path in (files[".env"], files["secrets"], files["audit file"]):
        path.touch(mode=0o600)
    files["secrets"].write_text(new_secret(), encoding="utf-8")
    return {
        ".env": (files[".env"], {}),
        "keys file": (files["keys file"], {"KEYS_FILE": str(files["keys file"])}),
        "secrets": (files["secrets"], {"SECRETS_DIR": str(files["secrets"].parent)}),
        "audit file": (files["audit file"], {"AUDIT_FILE": str(files["audit file"]), "AUDIT_KEY": new_secret()}),
    }


on_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")
ABOUT = [".env", "keys file", "secrets", "audit file"]


@pytest.fixture
def warned(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Change the rights of a file or of its directory, and return the warning about that file, if there is one."""
    files = secret_files(tmp_path)
    monkeypatch.chdir(files[".env"][0].parent)
    assert cli.run(SERVER, ["tools", "lock"]) == 0

    def check(about: str, *, mode: int | None = None, directory: int | None = None, owner: int | None = None) -> str:
        path, settings = files[about]
        for changed, bits in ((path, mode), (path.parent, directory)):
            if bits is not None:
                changed.chmod(bits)
        with monkeypatch.context() as patched:
            if owner is not None:
                patched.setattr(os, "geteuid", lambda: owner)
            found = report(**settings)
        assert report.code == 0
        assert about not in found or found[about].startswith("WARN")
        return found.get(about, "")

    return check


@on_posix
@pytest.mark.parametrize("about", ABOUT)
def test_a_secret_file_that_only_the_server_may_use_is_no_warning(warned: Callable[..., str], about: str) -> None:
    assert warned(about) == ""
    assert warned(about, mode=0o400) == ""
    assert warned(about, mode=0o600, directory=0o755) == ""


@on_posix
@pytest.mark.parametrize("about", ABOUT)
@pytest.mark.parametrize("mode", [0o666, 0o604, 0o620], ids=oct)
def test_a_secret_file_that_others_may_use_is_a_warning(warned: Callable[..., str], about: str, mode: int) -> None:
    said = warned(about, mode=mode)
    assert "others on this machine" in said
    assert f"chmod 6{'4' if about == 'audit file' and mode & 0o040 else '0'}0 " in said


@on_posix
def test_a_group_may_read_the_audit_trail_and_no_secret(warned: Callable[..., str]) -> None:
    assert [about for about in ABOUT if warned(about, mode=0o640)] == [".env", "keys file", "secrets"]


@on_posix
@pytest.mark.parametrize("about", ABOUT)
def test_a_directory_in_which_others_may_replace_the_file_is_a_warning(warned: Callable[..., str], about: str) -> None:
    assert "may replace" in warned(about, directory=0o777)
    assert warned(about, directory=0o1777) == "", "as /tmp: only the owner may"


@on_posix
@pytest.mark.parametrize("about", ABOUT)
def test_a_secret_file_of_another_user_is_a_warning(warned: Callable[..., str], tmp_path: Path, about: str) -> None:
    mine = os.geteuid()
    if mine == 0:
        for path in tmp_path.rglob("*"):
            os.chown(path, 12345, -1)
    assert "belongs to the user" in warned(about, owner=12345 + 1)


@on_posix
def test_a_link_is_judged_by_what_it_leads_to(warned: Callable[..., str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o777)
    elsewhere.chmod(0o777)
    (tmp_path / "env" / ".env").replace(elsewhere / "env")
    (tmp_path / "env" / ".env").symlink_to(elsewhere / "env")
    assert str(elsewhere) in warned(".env")


@on_posix
def test_a_secret_on_a_read_only_mount_is_no_warning(
    warned: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers and systemd hand secrets over in that way, often readable by all who are in there."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert warned("secrets", mode=0o444, directory=0o755) == ""


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


# --- the team's own settings, and what it shares ---


class OwnSettings(Settings):
    """Of a team."""

    max_orders: Annotated[int, Field(description="Orders in one list.")] = 10
    database_url: SecretStr = SecretStr("none")
    broken: bool = False


@asynccontextmanager
async def open_desk(settings: OwnSettings) -> AsyncIterator[list[str]]:
    """Open nothing, or fail."""
    if settings.broken:
        raise ConnectionRefusedError("no database")
    OPENED.append("opened")
    yield OPENED
    OPENED.append("closed")


async def ping(opened: list[str]) -> None:
    """Fail where a test says so."""
    if "fail" in opened:
        raise ConnectionError


OPENED: list[str] = []
OWN = Service(
    module=SERVER.module,
    settings=OwnSettings,
    lifespan=open_desk,
    checks={"database": ping},
)


def test_the_team_s_settings_are_listed_without_secrets(report: Report) -> None:
    password = new_secret()
    report.service = OWN
    found = report(MAX_ORDERS="7", DATABASE_URL=password)
    assert password not in report.said
    assert re.findall(r"own settings +(.*)", report.said) == [
        "MAX_ORDERS is 7",
        "DATABASE_URL is (secret)",
        "BROKEN is False, the default",
    ]
    assert found["own settings"].startswith("OK")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("MAX_ORDER", "MAX_ORDERS"), ("DATABSE_URL", "DATABASE_URL"), ("API_KEYS", "API_KEY"), ("LOGLEVEL", "LOG_LEVEL")],
)
def test_a_name_in_env_that_resembles_a_setting_is_worth_a_look(report: Report, name: str, meant: str) -> None:
    report.service = OWN
    Path(".env").write_text(f"{name}=7\nDOMAIN=mcp.example.com\nPORT=8081\n", encoding="utf-8")
    Path(".env").chmod(0o600)
    found = report()
    assert found[".env"].endswith(f"{name} is no setting. Did you mean {meant}?")
    assert found[".env"].startswith("WARN")
    assert report.said.count("Did you mean") == 1


def test_a_name_in_the_environment_that_resembles_a_setting_is_worth_a_look(report: Report) -> None:
    report.service = OWN
    found = report(MAX_REQUEST_PER_MINUTE="7", DATABASE_URI="x", REDIS_HOST="x", API_TOKEN="x", LOG_DIR="x")
    assert found["environment"].startswith("WARN")
    assert found["environment"].endswith("MAX_REQUEST_PER_MINUTE is no setting. Did you mean MAX_REQUESTS_PER_MINUTE?")
    assert report.said.count("Did you mean") == 2, "and DATABASE_URI, of the team's own"
    assert report.code == 0


def test_traces_that_nothing_sends_are_worth_a_look(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    present = {name: room for name, room in rooms.rooms().items() if name != "tracing"}
    monkeypatch.setattr(check, "rooms", lambda: present)
    found = report(OTEL_SERVICE_NAME="orders")
    assert found["tracing"].startswith("WARN")
    assert "OTEL_SERVICE_NAME is set, and nothing is traced. This project was made without tracing." in found["tracing"]
    assert "metrics-and-traces" in found["tracing"]


def test_start_opens_checks_and_closes_what_the_tools_share(report: Report) -> None:
    report.service = OWN
    OPENED.clear()
    report()
    assert OPENED == [], "only when asked to"
    assert report("--start")["start"].startswith("OK")
    assert (report.code, OPENED) == (0, ["opened", "closed"])
    OPENED[:] = ["fail"]
    assert "FAIL  start           the check database fails" in report("--start")["start"]
    assert report.code == 1
    found = report("--start", BROKEN="yes")
    assert "The server cannot start: ConnectionRefusedError: no database, at" in found["start"]
    assert report.code == 1


def test_a_destructive_tool_without_confirmation_is_warned_about(
    report: Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @tool(confirm="if-possible")
    def wipe() -> str:
        """Wipe."""
        return ""

    assert cli.run(replace(SERVER, tools=(wipe,)), ["check"]) == 0
    said = capsys.readouterr().out
    assert "WARN  tools           wipe: it is destructive and runs without a confirmation where the client" in said
