"""Two tenants, one table: the documented rule shows each its own rows, and a tool without the rule is found."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle, islice, product
from pathlib import Path

import pytest

from mcp_chassis.auth.keys import store as key_store
from mcp_chassis.auth.keys.format import id_of
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer

from ..support.documents import code, executed
from ..support.keys import add_key
from ..support.running import RunningServer, running_server
from .logs import log_lines

STATES = ("open", "sent")
RULE = " AND tenant = ?"
TENANTS = ("acme-5512", "umbrella-5512")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@contextmanager
def serving(source: str, path: Path) -> Iterator[RunningServer]:
    """Serve the documented tool over a table in which both tenants have orders."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE orders (id TEXT, tenant TEXT, status TEXT)")
    rows = [(f"{tenant}/{number}", tenant, STATES[number % 2]) for tenant in TENANTS for number in range(20)]
    database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
    documented = executed(source)
    desk = documented["Desk"](database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_store, "_CHECK_SECONDS", 0.0)
        mcp = GuardedServer("a-server", tools=[documented["find_orders"]], state=lambda: desk, events=EventLog())
        with running_server(mcp, keys_file=path, max_requests_per_minute=10_000) as server:
            yield server
    database.close()


def seen(server: RunningServer, key: str | None, status: str) -> str:
    """Return what a caller sees of the result; None is the key in `.env`."""
    headers = {"Authorization": f"Bearer {key}"} if key is not None else server.credentials
    return server.call("find_orders", {"status": status}, headers=headers).text


def rows_of_others(server: RunningServer, path: Path, *, calls: int) -> list[str]:
    """Let both tenants call, and return the results that hold a row of another tenant, or none of its own."""
    keys = {name: add_key(path, scopes=("orders:read",), labels={"tenant": (name,)}) for name in TENANTS}
    wrong = []
    for own, other, status in islice(cycle(product(TENANTS, TENANTS, STATES)), calls):
        if own == other:
            continue
        result = seen(server, keys[own], status)
        if f"{own}/" not in result or f"{other}/" in result:
            wrong.append(result)
    return wrong


def test_a_tenant_sees_its_own_rows_and_no_others(path: Path) -> None:
    with serving(code("authentication.md", "tenant"), path) as server:
        assert rows_of_others(server, path, calls=100) == []


def test_a_tool_without_the_rule_is_found(path: Path) -> None:
    source = code("authentication.md", "tenant").replace(RULE, "").replace("(status, tenant())", "(status,)")
    with serving(source, path) as server:
        assert rows_of_others(server, path, calls=4), "the check passes a tool that shows everything to everyone"


@pytest.mark.parametrize("labels", [None, {"tenant": TENANTS}, {"other": (TENANTS[0],)}], ids=["none", "two", "other"])
def test_a_caller_without_one_tenant_sees_nothing(path: Path, labels: dict[str, tuple[str, ...]] | None) -> None:
    with serving(code("authentication.md", "tenant"), path) as server:
        for key in (add_key(path, scopes=("orders:read",), labels=labels), None):
            result = seen(server, key, "open")
            assert "This needs a credential of one tenant." in result
            assert "5512" not in result


def test_logs_and_events_name_the_key_and_no_label(path: Path) -> None:
    """The id alone would send the operator to `keys list`; a label may be personal data."""
    with (
        serving(code("authentication.md", "tenant"), path) as server,
        log_lines("access") as access,
        log_lines("audit") as audit,
        log_lines("security") as security,
    ):
        key = add_key(path, name="acme-ci", scopes=("orders:read",), labels={"tenant": (TENANTS[0],)})
        refused = add_key(path, name="acme-cron", labels={"tenant": (TENANTS[0],)})
        revoked = add_key(path, name="acme-old", revoked=datetime.now(UTC), labels={"tenant": (TENANTS[0],)})
        for one, status in ((key, "open"), (key, "no such status"), (refused, "open"), (revoked, "open")):
            seen(server, one, status)
        events = server.events()
    lines = [(line["principal"], line["key_name"]) for line in audit]
    assert lines == [*[(f"key:{id_of(key)}", "acme-ci")] * 2, (f"key:{id_of(refused)}", "acme-cron")]
    assert [line["key_name"] for line in access if "key_name" in line] == ["acme-cron"]  # the others have an audit line
    names = {event["identifier"]: event["details"].get("key_name") for event in events}
    assert names == {f"key:{id_of(one)}": name for one, name in
                     ((key, "acme-ci"), (refused, "acme-cron"), (revoked, "acme-old"))}  # fmt: skip
    assert "5512" not in json.dumps([access, audit, security, events])
