"""Keys that were good once, are good for less, or only look good: over HTTP, on every route."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from starlette.routing import Route

from mcp_chassis import get_principal, tool
from mcp_chassis.app import create_app
from mcp_chassis.auth.keys import store as key_store
from mcp_chassis.auth.keys.format import digest, id_of, new_id, new_key
from mcp_chassis.auth.keys.store import changing_keys
from mcp_chassis.events.log import EventLog
from mcp_chassis.events.logging import configure_logging
from mcp_chassis.mcp.guarded_server import GuardedServer
from secure_mcp_server.server import SERVER

from ..support.keys import add_key, put, record_of
from ..support.running import RunningServer, running_server
from .wire import ACCEPT, JSON, send

LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
NOW = datetime.now(UTC)


@tool(scopes=("notes:read",), read_only=True)
async def read_secret_notes() -> str:
    """Say who reads."""
    return f"read by {get_principal()!r}"


@tool(scopes=("notes:read", "notes:write"), read_only=True)
def write_secret_notes() -> str:
    """Say who writes."""
    return f"written by {get_principal()!r}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[RunningServer]:
    """A server with a keys file beside the key in `.env`, without a limit for wrong credentials in the way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_store, "_CHECK_SECONDS", 0.0)
        mcp = GuardedServer("a-server", tools=[read_secret_notes, write_secret_notes], events=EventLog())
        with running_server(mcp, keys_file=path, max_failed_auth_per_minute=10_000) as running:
            yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def bad_keys(path: Path) -> dict[str, tuple[str, str]]:
    """Return keys that open nothing, each with the reason in the event, by what is wrong with them."""
    good, other = add_key(path), new_key(new_id())
    rotated = new_key(new_id())
    current = new_key(id_of(rotated))
    put(path, record_of(current, previous_sha256=digest(rotated), previous_until=NOW - timedelta(seconds=1)))
    return {
        "unknown": (other, "unknown"),
        "the id of another": (new_key(id_of(good)), "unknown"),
        "mistyped": (good[:-1] + ("a" if good[-1] != "a" else "b"), "check_sum"),
        "cut off": (good[:-1], "check_sum"),
        "in another case": (good.swapcase(), "unknown"),
        "only the id": (f"mcp_{id_of(good)}_", "check_sum"),
        "the digest": (digest(good), "unknown"),
        "the digest in the form of a key": (f"mcp_{id_of(good)}_{digest(good)}", "check_sum"),
        "expired": (add_key(path, expires=NOW - timedelta(seconds=1)), "expired"),
        "revoked": (add_key(path, revoked=NOW), "revoked"),
        "from before the rotation": (rotated, "rotated"),
    }


def test_a_bad_key_opens_no_route_and_the_answer_does_not_say_why(server: RunningServer, path: Path) -> None:
    routes = [route.path for route in create_app(server.settings, SERVER).routes if isinstance(route, Route)]
    answers = set()
    for flaw, (key, reason) in bad_keys(path).items():
        credential = ("Authorization", f"Bearer {key}")
        for route in (*routes, "/nothing"):
            is_mcp = route == "/mcp"
            headers = (JSON, ACCEPT, credential) if is_mcp else (credential,)
            body = json.dumps(LIST_TOOLS).encode() if is_mcp else b""
            answer = send(server, "POST" if is_mcp else "GET", route, headers, body)
            assert answer.status == 401, (flaw, route)
            assert "secret_notes" not in answer.text
            answers.add((answer.header("WWW-Authenticate"), answer.json()["detail"]))
        assert server.events()[0]["details"]["reason"] == reason, flaw
    assert len(answers) == 1, "the answer tells bad keys apart"


def test_a_key_opens_what_its_scopes_say_and_no_more(server: RunningServer, path: Path) -> None:
    key = add_key(path, scopes=("notes:read",))
    listed = server.post(LIST_TOOLS, headers=bearer(key))
    assert "read_secret_notes" in listed.text
    assert "write_secret_notes" not in listed.text
    assert (
        f"Principal(id='key:{id_of(key)}', kind='key', scopes=frozenset("
        in server.call("read_secret_notes", {}, headers=bearer(key)).text
    )
    refused = server.call("write_secret_notes", {}, headers=bearer(key))
    assert refused.status_code == 403
    challenge = refused.headers["www-authenticate"]
    assert 'error="insufficient_scope", scope="notes:read notes:write"' in challenge


def test_a_revoked_key_ends_without_a_restart(server: RunningServer, path: Path) -> None:
    key = add_key(path)
    assert server.post(LIST_TOOLS, headers=bearer(key)).status_code == 200
    with changing_keys(path) as keys:
        keys[id_of(key)] = keys[id_of(key)].model_copy(update={"revoked": NOW})
    assert server.post(LIST_TOOLS, headers=bearer(key)).status_code == 401
    event = server.events("authentication_failed")[0]
    assert (event["identifier"], event["details"]["reason"]) == (f"key:{id_of(key)}", "revoked")


def test_breaking_the_file_opens_nothing_closes_nothing_and_is_reported(server: RunningServer, path: Path) -> None:
    key, good = add_key(path), path.read_bytes()
    assert server.post(LIST_TOOLS, headers=bearer(key)).status_code == 200
    forged = new_key(new_id())
    path.write_text('{"keys": [' + record_of(forged, scopes=("*",)).model_dump_json())
    try:
        assert server.post(LIST_TOOLS, headers=bearer(key)).status_code == 200
        assert server.post(LIST_TOOLS, headers=bearer(forged)).status_code == 401
        (problem,) = server.get("/health", headers=server.credentials).json()["problems"]
        assert problem.startswith("The keys file cannot be used")
        assert "problems" not in server.get("/health").json()
    finally:
        path.write_bytes(good)
    assert server.get("/health", headers=server.credentials).json()["problems"] == []


@pytest.mark.parametrize(("page", "scope"), [("/security/events", "events:read"), ("/metrics", "metrics:read")])
def test_who_may_call_tools_is_not_told_of_other_callers(
    server: RunningServer, path: Path, page: str, scope: str
) -> None:
    caller, watcher = add_key(path, scopes=("notes:read", "events", "read")), add_key(path, scopes=(scope,))
    refused = server.get(page, headers=bearer(caller))
    assert refused.status_code == 403
    assert f'error="insufficient_scope", scope="{scope}"' in refused.headers["www-authenticate"]
    assert server.get(page, headers=bearer(watcher)).status_code == 200


def test_no_key_is_in_an_event_wherever_a_client_puts_it(server: RunningServer, path: Path) -> None:
    """A caller with the scope for events needs no other scope."""
    key, reader = add_key(path), add_key(path, scopes=("events:read",))
    token = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
    for credential in (key, token):
        send(server, "GET", f"/{credential}")
        send(server, "GET", "/nothing", [("X-Request-ID", credential)])
        send(server, "GET", "/health", [("Origin", f"https://{credential}")])
        server.call(credential, {})
        server.call("read_secret_notes", {credential: 1})
        server.post({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": f"about://{credential}"}})
    events = server.get("/security/events?limit=1000", headers=bearer(reader)).text
    assert "[redacted]" in events
    assert key not in events
    assert token not in events


def test_no_key_is_written_into_a_log_by_any_logger(capsys: pytest.CaptureFixture[str]) -> None:
    """A tool's author logs the headers, or a client puts its key into a path."""
    key, token = new_key(new_id()), "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
    for log_format in ("json", "console"):
        configure_logging("INFO", log_format=log_format)
        logging.getLogger("mine").info("headers: Bearer %s, Bearer %s", key, token)
    logged = capsys.readouterr().err
    assert logged.count("[redacted]") == 4
    assert key not in logged
    assert "eyJzdWIi" not in logged
