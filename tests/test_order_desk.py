"""The examples: the documented swap to PostgreSQL against a real one, and the rule for tenants taken out."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from baking import copied

import dev
from mcp_chassis.testing.process import ServerProcess, environment, server_process
from mcp_chassis.testing.running import new_secret, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM, and PostgreSQL as another user"),
]

POOL = 4
BLOCKS = re.compile(r"<!-- (file|added|imports|fields): (\S+) -->\n```python\n(.*?)```", re.DOTALL)
BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def found(name: str) -> Path:
    """Return a program of PostgreSQL, or skip the test; in CI it may not be missing."""
    places = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))]
    program = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", os.defpath)]))
    if program is None:
        reason = f"there is no {name} here: apt-get install postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(program)


class Cluster:
    """A PostgreSQL of the tests' own on a socket in its directory, run by a user without rights."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.log = directory, directory / "log"
        self.url = f"postgresql://desk@/postgres?host={directory}"
        user = "nobody" if os.getuid() == 0 else None
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        options = {"listen_addresses": "", "unix_socket_directories": directory, "fsync": "off"}
        options |= {"log_connections": "on", "log_min_messages": "debug1"}  # this logs how connections end
        with self.log.open("wb") as log:
            run = partial(subprocess.Popen, cwd=directory, user=user, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            initdb = ("--no-sync", "--auth=trust", "--username=desk", "--encoding=UTF8", "--locale=C", data)
            assert run([found("initdb"), *initdb]).wait(60) == 0, self.log.read_text()
            self.process = run(
                [found("postgres"), "-D", data, *(f"--{name}={value}" for name, value in options.items())]
            )
        wait_until(lambda: b"ready to accept connections" in self.log.read_bytes(), seconds=30)

    def connected(self) -> int:
        """Return how often the order desk has ever connected."""
        return self.log.read_text().count("application_name=order-desk")

    def connections(self) -> set[int]:
        """Return the processes of the order desk's connections."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'order-desk'"
            return {row[0] for row in connection.execute(query)}

    def stop(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(10)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below the directory of pytest, which other users cannot enter. A path of a socket is short.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as directory:
        started = Cluster(Path(directory))
        yield started
        started.stop()


def swapped(directory: Path) -> Path:
    """Bake a project and do what docs/order-desk.md says; return its package."""
    project = copied(directory)
    package = project / "src" / dev.package_of(project)
    page = (project / "docs/order-desk.md").read_text(encoding="utf-8")
    blocks = dict(BLOCK.findall(page))
    assert blocks.keys() == {"schema.sql", "database.py"}
    for name, text in blocks.items():
        assert (package / name).exists()
        (package / name).write_text(text, encoding="utf-8")
    settings = (package / "settings.py").read_text(encoding="utf-8")
    (field,) = re.findall(r"`(database: SecretStr = .*?)`", page)
    settings, number = re.subn(r"    database: Path = .*\n", f"    {field}\n", settings)
    assert number == 1
    settings = settings.replace("from pydantic import Field", "from pydantic import Field, SecretStr")
    (package / "settings.py").write_text(settings.replace("from pathlib import Path\n\n", ""), encoding="utf-8")
    return package


def use(server: ServerProcess) -> list[int]:
    """Place 40 orders, eight at a time, and return what is then found."""
    line = {"item": "TE-100", "quantity": 3, "price": "0.10"}

    def place(number: int) -> None:
        order = {"customer": f"Customer {number}", "due": "2026-12-24", "lines": [line]}
        result = server.running.call("place_order", {"order": order}).json()["result"]
        assert result["structuredContent"]["total"] == "0.30", result

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(place, range(40)))
    asked = {"status": "open", "due_by": "2026-12-31"}
    result = server.running.call("find_orders", asked).json()["result"]
    return [order["id"] for order in result["structuredContent"]["result"]]


@pytest.fixture
def served(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ServerProcess]]:
    package = swapped(tmp_path / "baked")
    monkeypatch.syspath_prepend(str(package.parent))
    (tmp_path / "work").mkdir()
    with server_process(tmp_path / "work", program=("-m", package.name, "serve"), database=cluster.url) as server:
        yield lambda: server


def test_on_postgresql_the_pool_is_opened_once_and_closed_on_sigterm(
    served: Callable[[], ServerProcess], cluster: Cluster
) -> None:
    server, before = served(), cluster.connections()
    assert len(before) == POOL, "it is open before the first request"
    assert use(server) == [1, *range(5, 45)]
    chart = server.running.call("sales_chart", {"year": 2026}).json()["result"]
    assert chart["content"][0]["type"] == "image"
    shipped = server.running.call("ship_order", {"number": 5, "carrier": "post"}).json()["result"]
    assert shipped["isError"] is False
    assert server.running.call("ship_order", {"number": 4, "carrier": "post"}).json()["result"]["isError"] is True
    assert cluster.connections() == before, "no call opens a connection, none closes one"
    assert cluster.connected() == POOL
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(15) == 0
    wait_until(lambda: cluster.connections() == set())
    assert "unexpected EOF" not in cluster.log.read_text(), "a process that just ends takes its connections with it"


def test_the_code_for_postgresql_passes_the_checks_of_the_project(tmp_path: Path) -> None:
    package = swapped(tmp_path)
    for command in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy", "--strict")):
        words = [sys.executable, "-m", *command, str(package)]
        done = subprocess.run(words, cwd=package.parents[1], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_without_its_database_the_server_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = swapped(tmp_path / "baked")
    monkeypatch.syspath_prepend(str(package.parent))
    nowhere = environment(database=f"postgresql://desk@/postgres?host={tmp_path}", api_key=f"mcp_{new_secret()}")
    done = subprocess.run(
        [sys.executable, "-m", package.name, "serve"],
        cwd=tmp_path,
        env=nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 69, done.stderr
    assert "The server cannot start" in done.stderr
    assert "Traceback" not in done.stderr


def statements(package: Path) -> list[tuple[Path, int]]:
    """Return the places where a statement asks for the tenant."""
    return [
        (path, match.start())
        for path in sorted(package.rglob("*.py"))
        for match in re.finditer(r"\btenant = \?", path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("nth", range(5))
def test_a_statement_that_forgets_the_tenant_is_found_by_the_tests_of_the_project(nth: int, tmp_path: Path) -> None:
    """The value stays bound, as `? IS NOT NULL`: otherwise the statement fails at once, which is found as well."""
    project = copied(tmp_path)
    package = project / "src" / dev.package_of(project)
    places = statements(package)
    assert len(places) == 5, "as many as there are cases"
    path, start = places[nth]
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:start] + text[start:].replace("tenant = ?", "? IS NOT NULL", 1), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/desk/test_tenants.py"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "1 failed" in done.stdout


def followed(directory: Path, *page_names: str) -> tuple[Path, int]:
    """Bake a project without examples and do what pages of docs say; return its package and the lines of it."""
    project = copied(directory, examples="no")
    package = project / "src" / dev.package_of(project)
    page = "\n".join((project / "docs" / name).read_text(encoding="utf-8") for name in page_names)
    lines = 0
    for kind, file, text in BLOCKS.findall(page):
        path = (project if file.startswith("tests/") else package) / file
        if kind == "file":
            assert not path.exists()
            path.parent.mkdir(exist_ok=True)
            edited = text
        else:
            edited = changed(path.read_text(encoding="utf-8"), kind, text)
        path.write_text(edited, encoding="utf-8")
        lines += sum(bool(line.strip()) for line in text.splitlines()) if path.is_relative_to(package) else 0
    return package, lines


def changed(source: str, kind: str, text: str) -> str:
    """Return a file with one block of a page added as the page says."""
    if kind == "imports":
        docstring, rest = source.split("\n\n", 1)
        return f"{docstring}\n\n{text}\n{rest}"
    if kind == "fields":
        # Of a class the last thing in the file, of the settings of the tests what makes the environment.
        head, found, rest = source.partition("os.devnull\n")
        return f"{head}{found}{text}{rest}" if found else f"{source}\n{text}"
    imported, listed = text.strip().split("\n\n")
    source, number = re.subn(rf"^{listed.partition(' =')[0]} = .*\n", f"{listed}\n", source, flags=re.MULTILINE)
    assert number == 1
    return source.replace("\n\n" + listed, f"\n{imported}\n\n{listed}")


def checked(package: Path) -> None:
    """Run what the pages end with, and every check of the project."""
    project = package.parents[1]
    commands = (
        ("ruff", "check", "--quiet", "--fix", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        (package.name, "settings"),
        (package.name, "tools", "lock"),
        ("pytest", "-q", "-p", "no:cacheprovider"),
    )
    for command in commands:
        given = environment() | {"CATALOGUE_TOKEN": "for the commands"}
        words = [sys.executable, "-m", *command]
        done = subprocess.run(words, cwd=project, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_about_state_and_tests_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, _ = followed(tmp_path / "baked", "state.md", "testing.md")
    monkeypatch.syspath_prepend(str(package.parent))
    checked(package)


def test_three_tools_take_at_most_sixty_lines_and_none_of_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, lines = followed(tmp_path / "baked", "three-tools.md")
    assert lines <= 60
    project = package.parents[1]
    monkeypatch.syspath_prepend(str(package.parent))
    checked(package)
    with (
        price_service() as url,
        server_process(
            project, program=("-m", package.name, "serve"), prices_url=url, shop_file=str(tmp_path / "shop"),
            environment="production",
        ) as server,
    ):  # fmt: skip
        call = server.running.call
        order = {"customer": "Ada", "items": [{"number": "TE-100", "quantity": 2}]}
        assert call("place", {"order": order}).json()["result"]["isError"] is False
        assert call("place", {"order": order | {"items": []}}).json()["result"]["isError"] is True
        assert call("orders_of", {"customer": "Ada"}).json()["result"]["structuredContent"] == {"result": [order]}
        assert call("price_of", {"item": "TE-100"}).json()["result"]["structuredContent"] == {"result": 4.5}
    verified = [sys.executable, "-m", package.name, "chassis", "verify"]
    subprocess.run(verified, cwd=project, env=environment(), check=True)


@contextmanager
def price_service() -> Iterator[str]:
    """A service that says 4.5 to everything."""

    class Price(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"4.5")

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Price) as service:
        Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_address[1]}"
        service.shutdown()
