"""What tools share: opened once per process before the first request, closed after the last, and never in a schema."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import pytest
from mcp import Client
from mcp.server.mcpserver import Context

from mcp_chassis import Service, Settings, Shared, get_principal, prompt, resource, tool
from mcp_chassis.auth.principal import Principal
from mcp_chassis.events.log import EventLog
from mcp_chassis.mcp.guarded_server import GuardedServer
from mcp_chassis.parts import Parts
from mcp_chassis.service import build_server
from mcp_chassis.settings import load_settings
from mcp_chassis.state import EXIT_UNAVAILABLE, ApplicationState, StartError, shared_parameters
from mcp_chassis.testing import call_tool
from mcp_chassis.testing.running import running_server

from .support.redis import running_redis
from .support.running import environment, free_port, new_secret, server_process, text, wait_until


@dataclass
class Desk:
    """What the tools of these tests share."""

    log: list[str] = field(default_factory=list)
    works: bool = True


@tool(read_only=True)
async def count(desk: Shared[Desk], more: int) -> int:
    """Count the entries."""
    return len(desk.log) + more


@tool(read_only=True)
def count_in_thread(more: int, desk: Shared[Desk]) -> int:
    """Count the entries."""
    return len(desk.log) + more


@tool(read_only=True)
async def count_by_context(ctx: Context) -> int:
    """Count the entries."""
    return len(cast(Desk, ctx.request_context.lifespan_context).log)


@resource("desk://log")
async def entries(desk: Shared[Desk]) -> str:
    """The entries."""
    return ",".join(desk.log)


@resource("desk://log/{place}")
def entry(place: str, desk: Shared[Desk]) -> str:
    """One entry."""
    return desk.log[int(place)]


@prompt()
def summarize(desk: Shared[Desk], style: str) -> str:
    """Summarize the entries."""
    return f"Summarize {style}: {desk.log}"


@tool(read_only=True)
async def who(desk: Shared[Desk]) -> str:
    """Name the caller."""
    return f"{get_principal().id} {desk.log}"


TOOLS = (count, count_in_thread, count_by_context)


class Opened:
    """A lifespan that notes when it is entered and left."""

    def __init__(self, state: object | None = None) -> None:
        self.notes: list[str] = []
        self.state = Desk(["a", "b"]) if state is None else state

    @asynccontextmanager
    async def __call__(self, settings: Settings) -> AsyncIterator[Any]:
        self.notes.append(f"opened on {settings.port > 0}")
        yield self.state
        self.notes.append("closed")  # without `finally`, and it is reached all the same


def service(lifespan: Any, **more: Any) -> Service:
    """Return a service with everything that takes a desk."""
    lists = {"tools": TOOLS, "resources": (entries, entry), "prompts": (summarize,)}
    return Service(module=__name__, lifespan=lifespan, **(lists | more))


def built(served: Service) -> tuple[GuardedServer, Parts]:
    parts = Parts(settings=load_settings(_env_file=None, enable_auth=False), name="test", version="1")
    return build_server(served, parts), parts


async def call_everything(client: Client) -> None:
    assert text(await client.call_tool("count", {"more": 1})) == "3"
    assert text(await client.call_tool("count_in_thread", {"more": 1})) == "3"
    assert text(await client.call_tool("count_by_context", {})) == "2"
    read: Any = (await client.read_resource("desk://log")).contents[0]
    assert read.text == "a,b"
    read = (await client.read_resource("desk://log/1")).contents[0]
    assert read.text == "b"
    said: Any = (await client.get_prompt("summarize", {"style": "briefly"})).messages[0].content
    assert said.text == "Summarize briefly: ['a', 'b']"


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_the_state_is_opened_once_for_all_calls_and_closed_at_the_end(mode: str) -> None:
    """Entered per request, it would be opened many times; never entered, the calls would fail."""
    opened = Opened()
    with running_server(service(opened)) as server:
        assert opened.notes == ["opened on True"], "it is open before the first request"
        async with server.client(mode) as client:
            await call_everything(client)
            await call_everything(client)
        assert opened.notes == ["opened on True"]
    assert opened.notes == ["opened on True", "closed"]


@pytest.mark.anyio
async def test_the_state_is_in_no_schema_and_no_caller_can_send_it() -> None:
    server, parts = built(service(Opened()))
    async with parts.run(), Client(server) as client:
        listed = (await client.list_tools()).tools
        assert [sorted(one.input_schema["properties"]) for one in listed] == [["more"], ["more"], []]
        prompts = (await client.list_prompts()).prompts
        assert [argument.name for argument in prompts[0].arguments or ()] == ["style"]
        assert (await client.call_tool("count", {"more": 1, "desk": {"log": []}})).is_error


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("lifespan", "says"),
    [
        (Opened({"a": "dict"}), "count takes desk: Shared[Desk], but the service has dict"),
        (None, "but the service has no lifespan"),
    ],
)
async def test_a_state_of_another_type_does_not_start(lifespan: Any, says: str) -> None:
    _, parts = built(service(lifespan))
    with pytest.raises(StartError, match="Yield a Desk from its lifespan") as failure:
        async with parts.run():
            raise AssertionError("it started")
    assert says in str(failure.value)
    if lifespan is not None:
        assert lifespan.notes[-1] == "closed"


async def connect_to_stock(password: str) -> None:
    raise ConnectionRefusedError(111, f"Connect call failed with {password}")


def test_a_failing_start_names_the_cause_first_and_the_line_and_no_secret() -> None:
    key = "mcp_" + "".join(map(chr, range(65, 91))) + "0123456789abcdefg"

    @asynccontextmanager
    async def broken(settings: Settings) -> AsyncIterator[Desk]:
        async with asyncio.TaskGroup():  # which wraps the cause in a group
            await connect_to_stock(settings.api_key.get_secret_value() if settings.api_key else "")
        yield Desk()

    with pytest.raises(StartError) as failure, running_server(service(broken), api_key=key):
        raise AssertionError("it started")
    sentence = str(failure.value)
    assert sentence.startswith("The server cannot start: ConnectionRefusedError: [Errno 111] Connect call failed")
    assert "(test_state.py, line " in sentence
    assert key not in sentence
    assert "\n" not in sentence


def test_a_lifespan_that_lacks_its_decorator_is_a_sentence() -> None:
    async def undecorated(_: Settings) -> AsyncIterator[Desk]:
        yield Desk()

    with (
        pytest.raises(StartError, match="write @asynccontextmanager above undecorated"),
        running_server(service(undecorated)),
    ):
        raise AssertionError("it started")


# --- checks ---


async def ping(desk: Desk) -> None:
    """Fail while the desk does not work."""
    if not desk.works:
        raise ConnectionError("the password is hunter2")


async def hang(_: Desk) -> None:
    """Never answer."""
    await asyncio.Event().wait()


def test_a_check_that_fails_makes_readyz_503_and_names_it_and_not_the_cause() -> None:
    opened = Opened()
    with running_server(service(opened, checks={"database": ping})) as server:
        assert server.get("/readyz").status_code == 200
        cast(Desk, opened.state).works = False
        first = server.get("/readyz")
        assert first.status_code == 200, "of the same second, or every probe would be a query"
        server_check_is_old()
        answer = server.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: database\n")
        cast(Desk, opened.state).works = True
        server_check_is_old()
        assert server.get("/readyz").status_code == 200
        assert server.get("/livez").status_code == 200


def server_check_is_old() -> None:
    time.sleep(1.05)


@pytest.mark.anyio
async def test_a_check_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_chassis.state._CHECK_SECONDS", 0.05)
    state = ApplicationState(
        None, load_settings(_env_file=None, enable_auth=False), checks={"slow": hang}, functions=()
    )
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(state.failing() for _ in range(50))) == [["slow"]] * 50


@pytest.mark.anyio
async def test_a_check_that_ends_the_process_fails_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(_: object) -> None:
        raise SystemExit(3)

    causes: list[str] = []
    monkeypatch.setattr(
        "mcp_chassis.state.log.error", lambda _, **fields: causes.append(fields["cause"]), raising=False
    )
    state = ApplicationState(
        None, load_settings(_env_file=None, enable_auth=False), checks={"leaving": leave}, functions=()
    )
    assert await state.failing() == ["leaving"]
    assert causes[0].startswith("RuntimeError: the check raised SystemExit")


@pytest.mark.anyio
async def test_a_check_that_cannot_be_stopped_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = 0, asyncio.Event()

    async def stubborn(_: object) -> None:
        nonlocal started
        started += 1
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    monkeypatch.setattr("mcp_chassis.state._CHECK_SECONDS", 0.05)
    monkeypatch.setattr("mcp_chassis.state._FRESH_SECONDS", 0)
    state = ApplicationState(
        None, load_settings(_env_file=None, enable_auth=False), checks={"slow": stubborn}, functions=()
    )
    try:
        assert [await state.failing() for _ in range(3)] == [["slow"]] * 3
        assert started == 1
    finally:
        release.set()
    await state.failing()
    assert (await state.failing(), started) == ([], 2)


@pytest.mark.anyio
async def test_a_state_that_cannot_be_closed_is_left_and_no_password_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def endless(_: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("postgres://desk:pass/w@rd@db.internal/orders is gone") from None

    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "mcp_chassis.state.log.error", lambda text, **fields: lines.append((text, fields["cause"])), raising=False
    )
    monkeypatch.setattr("mcp_chassis.state._CLOSE_SECONDS", 0.05)
    state = ApplicationState(endless, load_settings(_env_file=None, enable_auth=False), checks={}, functions=())
    async with asyncio.timeout(5), state.running():
        pass
    [(text, cause)] = lines
    assert text == "the state could not be closed"
    assert "postgres://[redacted]@db.internal/orders is gone" in cause
    assert "rd@" not in cause


# --- tests of tools ---


@pytest.mark.anyio
async def test_a_tool_is_called_with_a_given_state_and_caller_through_the_guard() -> None:
    caller = Principal("key:tester", "key")
    assert text(await call_tool(who, {}, state=Desk(["x"]), principal=caller)) == "key:tester ['x']"
    assert text(await call_tool(count, {"more": 2}, state=Desk(["x"]))) == "3"
    refused = await call_tool(count, {"more": "2"}, state=Desk())
    assert refused.is_error


@pytest.mark.anyio
async def test_a_tool_is_called_without_the_guard_as_the_function_it_is() -> None:
    assert await count(desk=Desk(["x"]), more=1) == 2


def test_an_annotation_that_cannot_be_read_names_its_function() -> None:
    async def measure(box: "Shared[Absent]", count: int) -> str:  # type: ignore[name-defined]  # noqa: F821
        return f"{box} {count}"

    async def weigh(count: "Final[int]") -> str:  # type: ignore[valid-type]
        return str(count)

    for function, advice in ((measure, "Import it at run time"), (weigh, "")):
        with pytest.raises(TypeError, match=rf"^{function.__name__}: .*{advice}"):
            shared_parameters(function)


LATER = """
from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcp_chassis import Shared, prompt, resource, tool

Kind = Literal["large", "small"]


class Box:
    size = 3


@tool(read_only=True)
async def measure(box: Shared[Box], kind: Kind, times: Annotated[int, Field(ge=1)] = 2) -> str:
    \"\"\"Measure.\"\"\"
    return f"{kind} {box.size * times}"


@resource("box://{kind}")
def opened(box: Shared[Box], kind: Kind) -> str:
    \"\"\"Open.\"\"\"
    return f"{kind} {box.size}"


@prompt()
def described(box: Shared[Box], kind: Kind) -> str:
    \"\"\"Describe.\"\"\"
    return f"{kind} {box.size}"
"""


@pytest.mark.anyio
async def test_the_state_reaches_functions_whose_annotations_are_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `from __future__ import annotations` makes them: names that only their own module knows."""
    (tmp_path / "later_annotations.py").write_text(LATER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    later = import_module("later_annotations")
    server = GuardedServer(
        "later",
        tools=[later.measure],
        resources=[later.opened],
        prompts=[later.described],
        state=later.Box,
        events=EventLog(),
    )
    async with Client(server) as client:
        assert text(await client.call_tool("measure", {"kind": "large"})) == "large 6"
        assert (await client.call_tool("measure", {"kind": "large", "times": 0})).is_error
        read: Any = (await client.read_resource("box://small")).contents[0]
        said: Any = (await client.get_prompt("described", {"kind": "small"})).messages[0].content
        assert (read.text, said.text) == ("small 3", "small 3")


# --- in a process of its own ---

DESK = '''
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from pydantic import Field
from mcp_chassis import Service, Settings, Shared, tool
from mcp_chassis.cli import run

class DeskSettings(Settings):
    """With the file that notes what happens."""
    notes: Path
    broken: bool = False

class Desk:
    pass

def note(settings: DeskSettings, what: str) -> None:
    with settings.notes.open("a") as file:
        file.write(f"{what} {os.getpid()}\\n")

@asynccontextmanager
async def open_desk(settings: DeskSettings) -> AsyncIterator[Desk]:
    if settings.broken:
        raise ConnectionRefusedError("nothing listens on 127.0.0.1:5432")
    note(settings, "opened")
    yield Desk()
    note(settings, "closed")

@tool(read_only=True)
async def pid(desk: Shared[Desk]) -> int:
    """Return the process."""
    return os.getpid()

SERVER = Service(module="desk", settings=DeskSettings, tools=(pid,), lifespan=open_desk)

if __name__ == "__main__":
    raise SystemExit(run(SERVER))
'''
SENTENCE = (
    "The server cannot start: ConnectionRefusedError: nothing listens on 127.0.0.1:5432, at `raise "
    'ConnectionRefusedError("nothing listens on 127.0.0.1:5432")` in open_desk (desk.py, line 26).\n'
)
MAIN = ("-c", "import desk; raise SystemExit(desk.run(desk.SERVER))")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Where the server notes that it opened and closed its state."""
    (tmp_path / "desk.py").write_text(DESK)
    return tmp_path / "notes"


@posix
def test_a_served_process_opens_its_state_once_and_closes_it_on_sigterm(notes: Path) -> None:
    with server_process(notes.parent, program=(*MAIN, "serve"), notes=str(notes)) as server:
        for _ in range(3):
            answer = server.running.call("pid", {}).json()
            assert answer["result"]["structuredContent"] == {"result": server.process.pid}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
    assert notes.read_text().split() == ["opened", str(server.process.pid), "closed", str(server.process.pid)]


@posix
def test_every_worker_opens_its_own_state_once_and_closes_it_on_sigterm(notes: Path) -> None:
    with running_redis() as redis:
        settings = {"redis_url": redis.url, "state_secret": new_secret(), "workers": "2", "redis_timeout": "5"}
        with server_process(notes.parent, program=(*MAIN, "serve"), notes=str(notes), **settings) as server:
            wait_until(lambda: notes.read_text().count("opened") == 2)
            called = {server.running.call("pid", {}).json()["result"]["structuredContent"]["result"] for _ in range(20)}
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(15) == 0
    lines = [line.split() for line in notes.read_text().splitlines()]
    opened, closed = ([pid for what, pid in lines if what == wanted] for wanted in ("opened", "closed"))
    assert len(opened) == len({*opened}) == 2
    assert sorted(closed) == sorted(opened)
    assert {*map(str, called)} <= {*opened}


def stdio_process(notes: Path, **settings: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *MAIN, "stdio"],
        cwd=notes.parent,
        env=environment(log_format="json", notes=str(notes), **settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@posix
@pytest.mark.parametrize("end", ["end of input", "SIGTERM", "SIGINT"])
def test_over_stdio_the_state_is_opened_once_and_closed_at_the_end(notes: Path, end: str) -> None:
    with stdio_process(notes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2):
            process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": "ping", "params": None}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        if end == "end of input":
            process.stdin.close()
        else:
            process.send_signal(getattr(signal, end))
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert notes.read_text().split() == ["opened", str(process.pid), "closed", str(process.pid)]


def test_over_stdio_a_failing_start_is_one_sentence_and_exit_code_69(notes: Path) -> None:
    with stdio_process(notes, broken="true") as process:
        output, errors = process.communicate(timeout=30)
    assert process.returncode == EXIT_UNAVAILABLE == 69
    assert output == ""
    assert errors.endswith(SENTENCE)
    assert "Traceback" not in errors


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failing_start_is_one_sentence_and_exit_code_69(notes: Path, workers: str) -> None:
    shared = (
        {} if workers == "1" else {"redis_url": "redis://127.0.0.1:1", "workers": workers, "state_secret": new_secret()}
    )
    variables = environment(
        notes=str(notes),
        broken="true",
        port=str(free_port()),
        api_key=f"mcp_{new_secret()}",
        log_level="ERROR",
        **shared,
    )
    command = [sys.executable, *MAIN, "serve"]
    found = subprocess.run(
        command, cwd=notes.parent, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == EXIT_UNAVAILABLE
    assert SENTENCE in found.stderr
    assert "Traceback" not in found.stderr
    if workers == "1":
        assert found.stderr == SENTENCE
