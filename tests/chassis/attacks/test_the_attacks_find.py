"""The attacks on every tool find what they are there for: here are tools as they must not be written.

They run only in the process that the attacks start, as `SERVER` of this module. Each is named by its findings, with the
argument and the safe way to write it.
"""

import asyncio
import os
import re
import sqlite3
import time
import traceback
import urllib.request
from collections.abc import Iterator
from typing import Annotated

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field

from mcp_chassis import Service, prompt, resource, tool
from mcp_chassis.calls import outcome
from mcp_chassis.calls.declarations import ToolPolicy, policy_of
from mcp_chassis.calls.output import Output
from mcp_chassis.testing.attacks.run import Campaign, Finding

pytestmark = pytest.mark.slow

LAST = {"text": ""}
DATABASE = sqlite3.connect(":memory:", check_same_thread=False)
DATABASE.execute("CREATE TABLE notes (owner TEXT, name TEXT)")
DATABASE.execute("INSERT INTO notes VALUES ('alice', 'shopping')")


class Crash(BaseException):
    """Is no Exception."""


class Source(BaseModel):
    """An object in a list."""

    location: Annotated[str, Field(max_length=500)]


def let_everything_through() -> None:
    """Take away, in the process under attack, what the guard does against it: it leaves nothing to find."""
    for name in ("of_tool", "fit", "text"):
        setattr(Output, name, lambda _, sent, *__, **___: sent)
    setattr(outcome, "would_end_the_server", lambda _: False)  # noqa: B010


@tool(read_only=True)
def read_file(path: str) -> str:
    """Read a file."""
    with open(path, encoding="utf-8") as file:
        return file.read()


@tool()
def save_file(path: str, text: str) -> str:
    """Write a file, after asking a person."""
    with open(os.path.join("files", path), "w", encoding="utf-8") as file:
        file.write(text)
    return "saved"


@tool(read_only=True)
def read_sources(sources: list[Source]) -> list[str]:
    """Read what objects in a list point at."""
    return [urllib.request.urlopen(source.location).read().decode() for source in sources]


@tool(read_only=True, calls_per_minute=3)
async def get_url(url: Annotated[str, Field(pattern=r"^https?://")]) -> str:
    """Fetch, and say nothing of it; only three times in a minute."""
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: ASYNC210
    except OSError:
        return "no"
    return "yes"


@tool(read_only=True)
def list_directory(name: str) -> str:
    """Start a program through a shell."""
    return os.popen(f"ls '{name}' 2>&1").read()  # noqa: S605


@tool(read_only=True)
def calculate(formula: Annotated[str, Field(max_length=100)]) -> str:
    """Evaluate."""
    return str(eval(formula))  # noqa: S307


@tool(read_only=True)
def find_note(name: str) -> list[str]:
    """Build a query with an f-string."""
    rows = DATABASE.execute(f"SELECT name FROM notes WHERE owner = 'bob' AND name = '{name}'")  # noqa: S608
    return [row[0] for row in rows]


@tool(read_only=True)
def count_notes(name: str) -> bool:
    """Build a query with an f-string, and tell no more than yes or no."""
    return DATABASE.execute(f"SELECT 1 FROM notes WHERE name = '{name}'").fetchone() is not None  # noqa: S608


@tool(read_only=True)
def is_word(text: str) -> bool:
    """Match a pattern that explodes."""
    return re.match(r"(a+)+$", text) is not None


@tool(read_only=True)
def trim(text: str) -> str:
    """Match a pattern that takes quadratic time."""
    return re.sub(r"\s+$", "", text)


@tool(read_only=True)
def diagnose() -> str:
    """Tell the environment."""
    return str(dict(os.environ))


@tool(read_only=True)
def to_number(text: str) -> str:
    """Tell how it failed."""
    try:
        return str(int(text))
    except ValueError:
        return traceback.format_exc()


@tool(read_only=True)
def open_issue(number: str) -> str:
    """Tell what the exception says."""
    try:
        return str({"1": "an issue"}[number])
    except KeyError as error:
        raise ToolError(f"failed with {error!r}") from None


@tool(read_only=True)
def remember(text: str) -> str:
    """Tell what the last caller said."""
    before, LAST["text"] = LAST["text"], text
    return before


@tool(read_only=True)
def tag(labels: dict[str, int]) -> str:
    """Open what the name of a member says."""
    return "".join(open(name, encoding="utf-8").read() for name in labels)


@tool(read_only=True)
def give_up(reason: Annotated[str, Field(max_length=200)]) -> str:
    """End the process."""
    if "'" in reason:
        os._exit(3)
    return "no"


@tool(read_only=True)
def fill_in(template: Annotated[str, Field(max_length=200)]) -> str:
    """Take the format from the caller."""
    return template.format("Alice")


@tool(read_only=True, timeout=1)
async def wait_for(name: str) -> str:
    """Wait for what never comes."""
    await asyncio.Event().wait()
    return name


@tool(read_only=True, max_concurrency=2)
def look_up(name: Annotated[str, Field(max_length=200)]) -> str:
    """Hang on what was not foreseen, in a thread that cannot be ended."""
    time.sleep(20 if "'" in name else 0)
    return "no"


@tool(read_only=True)
async def repeat(text: str) -> str:
    """End the request with something that nothing catches."""
    let_everything_through()
    raise Crash


@resource("reports://all")
def reports() -> str:
    """Answer with everything there is."""
    let_everything_through()
    return "report " * 300_000


@resource("files://{+path}")
def file(path: str) -> str:
    """Read a file."""
    with open("/" + path, encoding="utf-8") as opened:
        return opened.read()


@prompt()
def summarise(text: str) -> str:
    """Hand on whatever comes."""
    let_everything_through()
    return f"Summarise: {text}"


_TOOLS = (
    *(read_file, save_file, read_sources, get_url, list_directory, calculate, find_note, count_notes, is_word, trim),
    *(diagnose, to_number, open_issue, remember, tag, give_up, fill_in, wait_for, look_up, repeat),
)
SERVER = Service(module=__name__, tools=_TOOLS, resources=(reports, file), prompts=(summarise,))

EXPECTED = {
    "tool read_file": ("path", "attack succeeded", "SafeRoot"),
    "tool save_file": ("path", "attack succeeded", "SafeRoot"),
    "tool read_sources": ("sources[0].location", "attack succeeded", "SafeFetcher"),
    "tool get_url": ("url", "attack succeeded", "SafeFetcher"),
    "tool list_directory": ("name", "attack succeeded", "run_argv"),
    "tool calculate": ("formula", "attack succeeded", "eval"),
    "tool find_note": ("name", "attack succeeded", "bind SQL parameters"),
    "tool count_notes": ("name", "attack succeeded", "bind SQL parameters"),
    "tool is_word": ("text", "slow answer", "nested quantifiers"),
    "tool trim": ("text", "slow answer", "max_length"),
    "tool diagnose": ("", "secret in the answer", "os.environ"),
    "tool to_number": ("", "internal text in the answer", "ToolError"),
    "tool open_issue": ("", "internal text in the answer", "ToolError"),
    "tool remember": ("", "data of another caller", "get_principal"),
    "tool tag": ("labels.<name sample>", "attack succeeded", "SafeRoot"),
    "tool give_up": ("reason", "server ended", "os._exit"),
    "tool fill_in": ("template", "internal text in the answer", "ToolError"),
    "tool wait_for": ("", "slow answer", "at its deadline"),
    "tool look_up": ("name", "slow answer", "no answer"),
    "tool repeat": ("", "server error", "raise ToolError"),
    "resource reports://all": ("", "answer over the size limit", "pages"),
    "resource files://{+path}": ("path", "attack succeeded", "SafeRoot"),
    "prompt summarise": ("text", "hidden text in the answer", "Text"),
}


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    """A server with these tools, in a process of its own."""
    with Campaign(SERVER) as started:
        yield started


@pytest.mark.parametrize("name", EXPECTED)
def test_a_tool_as_it_must_not_be_is_found(campaign: Campaign, name: str) -> None:
    (subject,) = [one for one in campaign.subjects if str(one) == name]
    findings = campaign.attack(subject)
    argument, kind, safe_way = EXPECTED[name]
    assert any(_matches(one, argument, kind, safe_way) for one in findings), "\n".join(map(str, findings))
    assert all(name in str(one) and one.payload and one.safe_way for one in findings)


def _matches(finding: Finding, argument: str, kind: str, safe_way: str) -> bool:
    return (finding.argument, finding.kind) == (argument, kind) and safe_way in str(finding)


def test_everything_here_is_expected_to_be_found(campaign: Campaign) -> None:
    assert {str(subject) for subject in campaign.subjects} == set(EXPECTED)
    assert policy_of(save_file, ToolPolicy).confirm, "a tool that asks a person is attacked, too"
