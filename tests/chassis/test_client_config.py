"""Client configurations: right for this server, and without the key."""

import json
import re
import shlex
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from baking import TEMPLATE, load_module
from dotenv import dotenv_values

from mcp_chassis import cli
from mcp_chassis.settings import EXIT_CONFIG, SettingsError, load_settings
from secure_mcp_server.server import SERVER

from .support.project import PROJECT

SCRIPT = load_module(TEMPLATE / "scripts" / "client_config.py")
CLIENTS, Target, target_of = SCRIPT.CLIENTS, SCRIPT.Target, SCRIPT.target_of

COMMAND = ("uv", "--directory", "/srv/notes-server", "run", "notes-server", "stdio")
KEY = "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO"
PUBLIC = Target("notes-server", "https://mcp.example.com/mcp", "1.2.3", "NOTES_SERVER_KEY", COMMAND)
OPEN = Target("notes-server", "https://mcp.example.com/mcp", "1.2.3", None, COMMAND)


def command(*arguments: str) -> int:
    """Run the command as the script does, in this process."""
    return cli.run(SERVER, ["client-config", *arguments], SCRIPT.add_command)


def parsed(client: str, target: Any) -> Any:
    return tomllib.loads(CLIENTS[client](target)) if client == "codex" else json.loads(CLIENTS[client](target))


def test_the_first_settings_of_a_project_give_a_server_on_this_machine() -> None:
    example = {name.lower(): value for name, value in dotenv_values(PROJECT / ".env.example").items() if value}
    if example.get("auth_mode") == "oauth":
        example["oauth_issuer"] = "https://login.example.com"
    if "redis_url" in example:
        example["state_secret"] = KEY[::-1]
    settings = load_settings(_env_file=None, **(example | {"api_key": KEY}))
    target = target_of(settings, SERVER)
    command = ("uv", "--directory", str(PROJECT.resolve()), "run", "secure-mcp-server", "stdio")
    key = None if example.get("auth_mode") == "oauth" else "SECURE_MCP_SERVER_KEY"
    assert target == Target("secure-mcp-server", "http://127.0.0.1:8080/mcp", SERVER.version, key, command)


def test_claude_desktop_starts_the_command_and_needs_no_key() -> None:
    server = parsed("claude-desktop", PUBLIC)["mcpServers"]["notes-server"]
    assert server == {"command": COMMAND[0], "args": list(COMMAND[1:])}


def test_without_a_checkout_it_starts_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(SERVER), "project", None)
    settings = load_settings(_env_file=None, api_key=KEY)
    assert target_of(settings, SERVER).command == (sys.executable, "-P", "-m", SERVER.package, "stdio")


@pytest.mark.parametrize(
    ("client", "root", "reference"),
    [
        ("claude-code", "mcpServers", "${NOTES_SERVER_KEY}"),
        ("cursor", "mcpServers", "${env:NOTES_SERVER_KEY}"),
        ("vscode", "servers", "${env:NOTES_SERVER_KEY}"),
    ],
)
def test_the_url_and_a_reference_to_the_key_are_there(client: str, root: str, reference: str) -> None:
    server = parsed(client, PUBLIC)[root]["notes-server"]
    assert server["url"] == PUBLIC.url
    assert server["headers"] == {"Authorization": f"Bearer {reference}"}
    assert "headers" not in parsed(client, OPEN)[root]["notes-server"]


def test_codex_and_the_inspector() -> None:
    server = {"url": PUBLIC.url, "bearer_token_env_var": "NOTES_SERVER_KEY"}
    assert parsed("codex", PUBLIC) == {"mcp_servers": {"notes-server": server}}
    assert parsed("codex", OPEN) == {"mcp_servers": {"notes-server": {"url": OPEN.url}}}
    assert '"Authorization: Bearer $NOTES_SERVER_KEY"' in CLIENTS["inspector"](PUBLIC)
    assert "Authorization" not in CLIENTS["inspector"](OPEN)


@pytest.mark.parametrize(
    ("client", "members"),
    [
        ("claude-code", {"oauth": {"clientId": "notes-client", "callbackPort": 33419}}),
        ("cursor", {"auth": {"CLIENT_ID": "notes-client"}}),
        ("vscode", {"oauth": {"clientId": "notes-client"}}),
        ("codex", {"oauth": {"client_id": "notes-client"}}),
    ],
)
def test_a_client_that_cannot_register_itself_gets_its_id(client: str, members: dict[str, Any]) -> None:
    document = parsed(client, replace(OPEN, client_id="notes-client"))
    ((entry,),) = (servers.values() for servers in document.values())
    assert members.items() <= entry.items()
    ((entry,),) = (servers.values() for servers in parsed(client, OPEN).values())
    assert not members.keys() & entry.keys()


def test_a_shell_gets_a_client_id_that_is_a_url_as_one_word() -> None:
    words = shlex.split(CLIENTS["inspector"](replace(OPEN, client_id="https://a.example/c?x=1&y=2")))
    assert words[words.index("--client-id") + 1] == "https://a.example/c?x=1&y=2"


def test_hosted_connectors_take_oauth_and_public_servers_only() -> None:
    assert PUBLIC.url in CLIENTS["connector"](OPEN)
    assert "OAuth client ID: notes" in CLIENTS["connector"](replace(OPEN, client_id="notes"))
    with pytest.raises(SettingsError, match="AUTH_MODE=oauth"):
        CLIENTS["connector"](PUBLIC)
    with pytest.raises(SettingsError, match="PUBLIC_URL"):
        CLIENTS["connector"](replace(OPEN, url="http://127.0.0.1:8080/mcp"))


def test_the_command_says_what_to_register_for_a_client_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    assert command("cursor", "--client-id", "notes") == EXIT_CONFIG
    assert "AUTH_MODE=oauth" in capsys.readouterr().err
    monkeypatch.setenv("AUTH_MODE", "oauth")
    monkeypatch.setenv("OAUTH_ISSUER", "https://login.example.com")
    assert command("cursor", "--client-id", "notes") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["mcpServers"]["secure-mcp-server"]["auth"] == {"CLIENT_ID": "notes"}
    assert "cursor://anysphere.cursor-mcp/oauth/callback" in said.err
    assert command("claude-desktop", "--client-id", "notes") == EXIT_CONFIG
    with pytest.raises(SystemExit):
        command("cursor", "--client-id", 'a"\nb')


def test_what_logs_in_is_offered_in_projects_with_oauth(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--help")
    assert {"connector", "--client-id"} <= set(re.findall(r"[\w-]+", capsys.readouterr().out))


@pytest.mark.parametrize("arguments", [["connector"], ["cursor", "--client-id", "notes"]])
def test_without_oauth_what_logs_in_is_not_offered_and_the_answer_that_adds_it_is_named(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    present = {name: room for name, room in SCRIPT.rooms().items() if name != "auth.oauth"}
    monkeypatch.setattr(SCRIPT, "rooms", lambda: present)
    with pytest.raises(SystemExit):
        command("--help")
    said = capsys.readouterr().out
    assert "claude-code" in said
    assert "connector" not in said
    assert "--client-id" not in said
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "This project was made without auth.oauth. To add it: uvx cruft update" in said
    assert """'{"auth": "oauth"}'""" in said


def test_the_entry_for_the_registry() -> None:
    """The rules of the registry's server.schema.json (2025-12-11) for what is used of it."""
    entry = parsed("registry", PUBLIC)
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert entry["name"] == "com.example.mcp/notes-server"
    assert 3 <= len(entry["name"]) <= 200
    assert 1 <= len(entry["description"]) <= 100
    assert entry["version"] == "1.2.3"
    assert set(entry) <= {"$schema", "name", "description", "version", "remotes"}
    (remote,) = entry["remotes"]
    assert remote["type"] == "streamable-http"
    assert re.fullmatch(r"https?://\S+", remote["url"])
    (header,) = remote["headers"]
    assert header["isSecret"] is True
    assert "value" not in header
    assert "headers" not in parsed("registry", OPEN)["remotes"][0]


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/mcp", "https://localhost/mcp", "http://mcp.example.com/mcp"])
def test_a_server_without_a_public_name_is_not_for_the_registry(url: str) -> None:
    with pytest.raises(SettingsError, match="PUBLIC_URL"):
        CLIENTS["registry"](Target("notes-server", url, "1.2.3", None, COMMAND))


def test_the_command_prints_the_text_alone_and_never_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    assert command("claude-code", "--port", "8081") == 0
    said = capsys.readouterr()
    assert "http://127.0.0.1:8081/mcp" in json.dumps(json.loads(said.out))
    assert ".mcp.json" in said.err
    assert KEY not in said.out + said.err
    assert command("registry") == EXIT_CONFIG
    assert "PUBLIC_URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["cursor", "--port", "8081"], 0, "http://127.0.0.1:8081/mcp"),
        (["registry"], EXIT_CONFIG, "These settings cannot be used:\n  PUBLIC_URL: "),
        (["cursor", "--env-file", "missing"], EXIT_CONFIG, "--env-file: missing is not a file"),
        (["netscape"], 2, "usage: secure-mcp-server client-config "),
        (["--help"], 0, "usage: secure-mcp-server client-config "),
    ],
)
def test_the_command_runs_the_script_of_the_project(
    arguments: list[str],
    code: int,
    said: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    assert cli.run(SERVER, ["client-config", *arguments]) == code
    assert said in "".join(capfd.readouterr())
