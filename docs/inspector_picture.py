#!/usr/bin/env python3
"""Takes docs/inspector.png, the picture in the README of the MCP Inspector after a call that has really happened.

    python docs/inspector_picture.py

clones the last commit of this checkout, runs `python dev.py serve` in the clone, starts the Inspector from npm, and
does in a headless Chromium what a newcomer would do: it puts the key into the Inspector's settings of the server,
connects and calls `hello_world`. It takes no picture of a page that shows the key or a token.

It needs Chromium, npm and a font with the sign of the button "Copy", on Debian `apt-get install --no-install-recommends
chromium npm fonts-symbola`. Linux and macOS.
"""

import base64
import json
import os
import platform
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import dev  # noqa: E402  (it stands beside this directory)

PICTURE = ROOT / "docs" / "inspector.png"
WIDTH, HEIGHT = 1280, 850  # pixels; all tools of the default project fit
MAX_BYTES = 150_000
INSPECTOR = "@modelcontextprotocol/inspector"
SERVER = "secure-mcp-server"

BROWSERS = ("chromium", "google-chrome")
BROWSER_IS_MISSING = "Chromium is missing. Install it: `apt-get install chromium` or `brew install --cask chromium`."
NPM_IS_MISSING = "npm is missing. Install it: `apt-get install npm` or `brew install node`."
INSTALL_SECONDS, START_SECONDS, PAGE_SECONDS, STOP_SECONDS = 600, 60, 30, 30
SETTLE_SECONDS = 1  # transitions of the page last less; a dialog takes the focus at their end

CONTROL = """[...document.querySelectorAll("button, input")].find(one =>
    [one.ariaLabel, one.labels?.[0]?.innerText, ...one.innerText.split("\\n")].includes(%s))"""
SHOWN = """[document.body.innerText, ...[...document.querySelectorAll("input:not([type=password]), textarea")]
    .map(one => one.value)].join("\\n")"""


def main() -> int:
    """Start everything, take the picture, stop everything; return the exit code."""
    try:
        PICTURE.write_bytes(take())
    except dev.Failure as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    sys.stdout.write(f"{PICTURE.name}: {PICTURE.stat().st_size} bytes. Look at it before you commit it.\n")
    return 0


def take() -> bytes:
    """Return the picture, as PNG.

    Raises:
        Failure: a program is missing, or something did not happen in time.
    """
    browser, npm = program(BROWSER_IS_MISSING, *BROWSERS), program(NPM_IS_MISSING, "npm")
    # Programs that are stopped may still write into their directories.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        place = Path(directory)
        node = installed_inspector(npm, place / "npm")
        clone = place / "cookiecutter-secure-mcp"
        run(["git", "clone", "-q", str(ROOT), str(clone)])
        with serving(clone) as (url, key), inspector(node, place, url) as (page_url, catalog):
            token = page_url.rpartition("=")[2]
            with chromium(browser, place / "profile") as page:
                page.open(page_url)
                call_hello_world(page, key, catalog)
                return picture(page, (key, token))


def program(message: str, *names: str) -> str:
    """Return the path of the first of these programs that is installed."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise dev.Failure(message)


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode != 0:
        raise dev.Failure(f"`{' '.join(command[:2])}` failed:\n{done.stderr[-1000:]}")


def installed_inspector(npm: str, directory: Path) -> tuple[str, str]:
    """Install the Inspector, and a Node.js that is new enough for it; return the program and its script."""
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    node = f"node-{sys.platform}-{machine}"
    directory.mkdir()
    options = ("--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    run([npm, "install", *options, "--prefix", str(directory), f"{node}@24", f"{INSPECTOR}@2"])
    modules = directory / "node_modules"
    return str(modules / node / "bin/node"), str(modules / INSPECTOR / "clients/launcher/build/index.js")


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((dev.HOST, 0))
        return int(probe.getsockname()[1])


# --- the programs -----------------------------------------------------------------------------------------------------


@contextmanager
def running(
    command: Sequence[str], pattern: str, seconds: float, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Start a program and yield the first line it prints that matches; stop it after the block.

    Raises:
        Failure: it did not print such a line in time.
    """
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(  # noqa: S603
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        ) as process,
    ):
        late = threading.Timer(seconds, process.terminate)
        late.start()
        try:
            for line in process.stdout or ():
                if re.search(pattern, line):
                    late.cancel()
                    yield line.strip()
                    return
            errors.seek(0)
            said = errors.read()[-1000:].decode(errors="replace")
            raise dev.Failure(f"`{Path(command[0]).name} {Path(command[1]).name}` did not start:\n{said}")
        finally:
            late.cancel()
            stop(process)


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask a program to end, and end it if it does not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


@contextmanager
def serving(clone: Path) -> Iterator[tuple[str, str]]:
    """Run `dev.py serve` in the clone; yield the URL of the MCP endpoint and the API key."""
    port = free_port()
    command = [sys.executable, "dev.py", "serve", f"port={port}"]
    with running(command, r"^Ctrl-C stops it", INSTALL_SECONDS, clone):
        env = dev.read_env(dev.Checkout(clone).projects / SERVER / ".env")
        yield f"http://{dev.HOST}:{port}/mcp", env["API_KEY"]


@contextmanager
def inspector(node: Sequence[str], place: Path, url: str) -> Iterator[tuple[str, Path]]:
    """Run the Inspector with a list that has one server; yield the URL of its page, with its token, and the list.

    It gets no `--server-url`: the page of such a session has no field for a header.
    """
    catalog = place / "mcp.json"
    catalog.write_text(json.dumps({"mcpServers": {SERVER: {"type": "http", "url": url}}}), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "HOST": dev.HOST,
        "CLIENT_PORT": str(free_port()),
        "MCP_SANDBOX_PORT": str(free_port()),
        "MCP_APP_ORIGIN_PORT": str(free_port()),
        "MCP_AUTO_OPEN_ENABLED": "false",
        "MCP_INSPECTOR_SECRET_STORE": "memory",
    }
    command = [*node, "--catalog", str(catalog)]
    with running(command, r"^\s*http://\S+_TOKEN=\w+\s*$", START_SECONDS, place, environment) as line:
        yield line, catalog


# --- the browser ------------------------------------------------------------------------------------------------------


class Page:
    """A page of a browser that speaks the DevTools protocol: JSON, ended by NUL, over two pipes.

    Args:
        commands: the descriptor that commands are written to.
        messages: the descriptor that responses and events are read from.
    """

    def __init__(self, commands: int, messages: int) -> None:
        self._commands, self._messages = commands, messages
        self._received = b""
        self._last_id = 0
        self._session: dict[str, str] = {}
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last_id += 1
        command = {"id": self._last_id, "method": method, "params": parameters, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self._last_id:
            pass  # an event
        if "result" not in message:
            raise dev.Failure(f"The browser rejected {method}: {message['error']['message']}")
        return dict(message["result"])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            readable, _, _ = select.select([self._messages], [], [], PAGE_SECONDS)
            received = os.read(self._messages, 1 << 16) if readable else b""
            if not received:
                raise dev.Failure("The browser ended, or does not respond.")
            self._received += received
        message, _, self._received = self._received.partition(b"\0")
        return dict(json.loads(message))

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript, or None if it throws."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        return None if "exceptionDetails" in result else result["result"].get("value")

    def open(self, url: str) -> None:
        """Load a page."""
        self.command("Page.navigate", url=url)

    def wait(self, expression: str, what: str) -> None:
        """Wait until an expression is true."""
        wait(lambda: self.value(expression), what)

    def click(self, name: str) -> None:
        """Click the button, or choose the option, with this label or line of text, as soon as it is there."""
        self.wait(f"(one => !one.disabled && (one.click(), true))({control(name)})", f"{name!r} can be clicked")
        time.sleep(SETTLE_SECONDS)

    def type(self, name: str, text: str) -> None:
        """Replace the text of the field with this label."""
        self.wait(
            f"(one => (one.select(), document.activeElement === one))({control(name)})", f"{name!r} has the focus"
        )
        self.command("Input.insertText", text=text)
        self.wait(f"document.activeElement.value === {json.dumps(text)}", f"{name!r} has its text")


def control(name: str) -> str:
    """Return the expression for the button or field with this name."""
    return CONTROL % json.dumps(name)


def wait(condition: Callable[[], Any], what: str) -> None:
    """Wait until `condition()` is true.

    Raises:
        Failure: it is not true in time.
    """
    end = time.monotonic() + PAGE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise dev.Failure(
                f"After {PAGE_SECONDS} seconds it is not true that {what}. Has the Inspector's page changed?"
            )
        time.sleep(0.1)


@contextmanager
def chromium(browser: str, profile: Path) -> Iterator[Page]:
    """Run a browser with a profile of its own, and yield its page."""
    commands, messages = os.pipe(), os.pipe()
    options = [
        "--headless=new",
        "--remote-debugging-pipe",  # descriptor 3 for commands, 4 for messages
        f"--user-data-dir={profile}",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-gpu",
    ]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # Chromium does not start as root with it
    line = f'exec "$@" 3<&{commands[0]} 4>&{messages[1]}'
    with subprocess.Popen(  # noqa: S603
        ["bash", "-c", line, "bash", browser, *options],  # noqa: S607
        pass_fds=(commands[0], messages[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            os.close(commands[0])
            os.close(messages[1])
            yield Page(commands[1], messages[0])
        finally:
            stop(process)
            os.close(commands[1])
            os.close(messages[0])


# --- the call and its picture -----------------------------------------------------------------------------------------


def call_hello_world(page: Page, key: str, catalog: Path) -> None:
    """Give the Inspector the key, connect, and call the tool."""
    page.click("Settings")
    page.click("Custom Headers")
    page.click("+ Add Header")
    page.type("header name, row 1", "Authorization")
    page.type("header value, Authorization, row 1", f"Bearer {key}")
    wait(lambda: key in catalog.read_text(encoding="utf-8"), "the header is stored")
    page.click("Close")
    page.click(f'Connect or disconnect "{SERVER}"')
    page.click("Tools")
    page.click("Close monitoring sidebar")
    page.click("hello_world")
    page.type("Name", "World")
    page.click("Execute Tool")
    page.wait('document.body.innerText.includes("Hello, World!")', "the result is shown")


def picture(page: Page, secrets: Sequence[str]) -> bytes:
    """Return a picture of the page.

    Raises:
        Failure: the page shows a secret, or the picture is not as large as it has to be.
    """
    page.value("document.activeElement.blur()")
    time.sleep(SETTLE_SECONDS)
    refuse_secrets(str(page.value(SHOWN)), secrets)
    taken = base64.b64decode(page.command("Page.captureScreenshot", format="png")["data"])
    if size_of(taken) != (WIDTH, HEIGHT) or len(taken) > MAX_BYTES:
        raise dev.Failure(f"The picture has {size_of(taken)} pixels and {len(taken)} bytes: choose another size.")
    return taken


def refuse_secrets(shown: str, secrets: Sequence[str]) -> None:
    """Check what a page shows.

    Raises:
        Failure: it has a secret, or a word that is as long as one.
    """
    if any(secret in shown for secret in secrets) or re.search(r"[\w-]{40,}", shown):
        raise dev.Failure("The page shows the key, a token, or what looks like one: no picture was taken.")


def size_of(png: bytes) -> tuple[int, int]:
    """Return the width and the height of a PNG."""
    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
        raise dev.Failure("The picture is not a PNG.")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, dev.interrupt)  # a plain `kill` must not leave the servers behind
    sys.exit(main())
