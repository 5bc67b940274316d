"""The tables in a project's documents are complete: every setting with its default, every refusal in its words."""

import re
from pathlib import Path
from typing import Any

import pytest

from mcp_chassis import cli
from mcp_chassis.settings import all_fields, load_settings
from secure_mcp_server.server import SERVER

from .support.project import PROJECT
from .support.running import RunningServer, free_port, running_server

SETTINGS = (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8")
ERRORS = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
EXAMPLE = (PROJECT / ".env.example").read_text(encoding="utf-8")
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def written(default: Any) -> str:
    """Return a default as people write it."""
    if default in (None, ()):
        return "none"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| .+ \|$", SETTINGS.partition("## Your own")[0], re.MULTILINE)
    assert dict(rows) == {name.upper(): written(field.default) for name, field in all_fields().items()}
    assert len(rows) == len(dict(rows))


def test_every_setting_is_in_env_example_and_nothing_else_is() -> None:
    names = re.findall(r"^([A-Z_]+)=", EXAMPLE, re.MULTILINE)
    assert sorted(names) == sorted(name.upper() for name in all_fields(SERVER.settings))


def test_the_team_s_own_settings_are_explained() -> None:
    assert cli.run(SERVER, ["settings", "--check"]) == 0


def test_env_example_needs_nothing_but_the_secrets_and_the_issuer(tmp_path: Path) -> None:
    (tmp_path / "env").write_text(EXAMPLE, encoding="utf-8")
    needed = {"api_key": "k7Gq2ZpW9xYvB3nM5tR8sL1dF4hJ6cAeU0iO", "state_secret": "sYb1q8Vr5nEw2kTz7mXc4jLp9dGf6hAu3oQi"}
    if "AUTH_MODE=oauth" in EXAMPLE:
        needed["oauth_issuer"] = "https://login.example.com"
    load_settings(_env_file=tmp_path / "env", **needed)


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (400, [("Authorization", "Bearer twice")]),
        (403, [("Origin", "https://evil.example")]),
        (415, [("Content-Type", "text/plain")]),
        (421, [("Host", "evil.example")]),
    ],
    ids=repr,
)
def test_a_refusal_is_explained_in_its_own_words(
    server: RunningServer, status: int, changes: list[tuple[str, str]]
) -> None:
    answer = server.post(LIST_TOOLS, headers=[*server.credentials.items(), *changes])
    assert answer.status_code == status
    assert explained(status, answer.json()["detail"])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_so_are_missing_and_wrong_credentials(server: RunningServer, headers: dict[str, str]) -> None:
    assert explained(401, server.post(LIST_TOOLS, headers=headers).json()["detail"])


def test_so_is_a_wrong_path(server: RunningServer) -> None:
    assert explained(404, server.post(LIST_TOOLS, path="/nothing").json()["detail"])


def explained(status: int, text: str) -> bool:
    """Whether a row of the table begins with this status and these words."""
    return any(f"| {status} | {quote}{text}{quote}" in ERRORS for quote in ("`", "``"))


def test_so_are_the_refusals_that_are_no_problem_documents(server: RunningServer) -> None:
    batch = server.post([LIST_TOOLS])
    assert explained(batch.status_code, batch.json()["error"]["message"])
    not_acceptable = server.post(LIST_TOOLS, headers=server.credentials | {"Accept": "text/plain"})
    assert explained(not_acceptable.status_code, not_acceptable.json()["error"]["message"])
    not_allowed = server.get("/mcp", headers=server.credentials)
    assert explained(not_allowed.status_code, not_allowed.json()["detail"])
    both = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    unknown = b"PUSH / HTTP/1.1\r\nHost: a\r\n\r\n"
    flawed = (b"not HTTP\r\n\r\n", both, both.replace(b": a", b": a/b"), b"G" * 20_000, unknown)
    said = [server.raw(data, timeout=1).decode().rpartition("\r\n")[2] for data in flawed]
    assert all(explained(400, text) for text in said)
    assert len(set(said)) == len(said)


def test_so_are_the_refusals_of_limits() -> None:
    with running_server(max_requests_per_minute=1, max_failed_auth_per_minute=1) as server:
        wrong = {"Authorization": "Bearer wrong"}
        too_large = server.post("x" * server.settings.max_body_bytes)
        answers = [too_large, server.post(LIST_TOOLS), *(server.get("/mcp", headers=wrong) for _ in range(2))]
    assert [answer.status_code for answer in answers] == [413, 429, 401, 429]
    assert all(explained(answer.status_code, answer.json()["detail"]) for answer in answers)


def test_so_are_a_blocked_address_and_an_unavailable_issuer() -> None:
    with running_server(blocked_clients="127.0.0.1") as server:
        blocked = server.get("/livez")
    issuer = f"http://127.0.0.1:{free_port()}"
    with running_server(auth_mode="oauth", oauth_issuer=issuer, oauth_allow_http_issuer=True) as server:
        unavailable = server.get("/mcp", headers={"Authorization": "Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA"})
    assert (blocked.status_code, unavailable.status_code) == (403, 503)
    assert explained(403, blocked.json()["detail"])
    assert explained(503, unavailable.json()["detail"])
