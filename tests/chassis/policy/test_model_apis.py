"""What a model reads of the tools: its size, and whether the big model APIs take it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from baking import TEMPLATE, load_module
from pydantic import BaseModel, Field

from mcp_chassis import Service, tool
from mcp_chassis.calls.tools import GuardedTool, guarded_tool
from mcp_chassis.cli import run
from secure_mcp_server.server import SERVER

SCRIPT = load_module(TEMPLATE / "scripts" / "model_apis.py")
shown_to_model, tokens, unportable = SCRIPT.shown_to_model, SCRIPT.tokens, SCRIPT.unportable

Text = Annotated[str, Field(max_length=50)]
ALL = ("openai", "anthropic", "gemini")


class Circle(BaseModel):
    """A shape."""

    kind: Literal["circle"]
    radius: Annotated[float, Field(ge=0, le=9)]


class Square(BaseModel):
    """Another shape."""

    kind: Literal["square"]
    side: Annotated[float, Field(ge=0, le=9)]


class Branch(BaseModel):
    """A type that contains itself."""

    name: Text
    branches: Annotated[list["Branch"], Field(max_length=3)]


class Outer(BaseModel):
    """A type that contains another, twice."""

    first: Circle
    second: Circle | Square


def made(kind: Any, *, name: str = "draw", member: str | None = None) -> GuardedTool:
    """Return a tool with one parameter of a type."""

    async def draw(shape: Any) -> str:
        """Draw."""
        return ""

    draw.__name__ = name
    draw.__annotations__["shape"] = Annotated[kind, Field(alias=member)] if member else kind
    return guarded_tool(tool(read_only=True)(draw))


PORTABLE: list[Any] = [
    Text,
    Annotated[int, Field(ge=0, le=9)],
    bool,
    Text | None,
    Annotated[list[Text], Field(max_length=3)],
    Annotated[set[Text], Field(max_length=3)],
    Literal["a"],
    Literal["a", "b"],
    Circle | Square,
    Outer,
]


@pytest.mark.parametrize("kind", PORTABLE, ids=str)
def test_ordinary_types_are_portable(kind: Any) -> None:
    assert list(unportable(made(kind), ALL)) == []


LACKED: list[tuple[Any, bool, str, str]] = [
    (Annotated[dict[Text, Text], Field(max_length=3)], True, "list of objects", "openai, anthropic"),
    (Annotated[Circle | Square, Field(discriminator="kind")], True, "without a discriminator", "openai, anthropic"),
    (tuple[Text, Text], True, "named members instead of a tuple", "openai, anthropic"),
    (Branch, True, "a type contains itself", "anthropic, gemini"),
]


@pytest.mark.parametrize(("kind", "is_common", "instead", "apis"), LACKED, ids=str)
def test_a_type_that_apis_lack_is_reported_with_what_to_write(
    kind: Any, is_common: bool, instead: str, apis: str
) -> None:
    ((found, text),) = unportable(made(kind), ALL)
    assert found is is_common
    assert instead in text
    assert apis in text


NAMES: list[tuple[str, str | None, list[bool]]] = [
    ("d" * 64, None, []),
    ("d" * 65, None, [True]),
    ("größe", None, [True]),
    ("draw.now", None, [True]),
    ("draw-now", None, []),
    ("2d", None, [False]),
    ("draw", "from", []),
    ("draw", "not", []),
    ("draw", "oneOf", []),
    ("draw", "m" * 65, [True]),
    ("draw", "filter[id]", [True]),
    ("draw", "größe", [True]),
    ("draw", "user-id", [False]),
]


@pytest.mark.parametrize(("name", "member", "expected"), NAMES)
def test_names_are_compared_with_what_the_apis_take(name: str, member: str | None, expected: list[bool]) -> None:
    """A parameter that is named like a keyword of JSON Schema is no such keyword."""
    assert [found for found, _ in unportable(made(Text, name=name, member=member), ALL)] == expected


def test_what_one_api_lacks_is_a_note() -> None:
    @tool(read_only=True)
    async def greet(name: Text = "World") -> str:
        return name

    greet.__doc__ = "Greet. " * 200
    found = list(unportable(guarded_tool(greet), ALL))
    assert [is_common for is_common, _ in found] == [False, False]
    assert [text.partition(":")[0] for _, text in found] == [
        "its description is longer than 1024 characters",
        "default of name",
    ]
    assert list(unportable(guarded_tool(greet), ["anthropic", "gemini"])) == []


def test_of_a_single_api_everything_is_a_note() -> None:
    """A team whose clients use one API says so, and decides by itself."""
    ((is_common, text),) = unportable(made(Branch), ["anthropic"])
    assert not is_common
    assert text.endswith("(not taken by anthropic)")


def test_the_estimate_counts_bytes_of_what_a_model_reads() -> None:
    guarded = made(Text)
    assert set(shown_to_model(guarded)) == {"name", "description", "input_schema"}
    assert tokens("a" * 398) == 100
    assert tokens("文" * 132) == 100  # not fewer for other scripts: 3 bytes each


@tool(read_only=True)
async def small(name: Text) -> str:
    """Do something small."""
    return name


@tool(read_only=True)
async def large(name: Text) -> str:
    return name


large.__doc__ = "Do something large. " * 25


@tool(read_only=True)
async def mapped(labels: Annotated[dict[Text, Text], Field(max_length=3)]) -> str:
    """Take a map."""
    return ""


@pytest.fixture
def checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return what locks tools and then runs `tools check`."""

    def check(*functions: Any, **settings: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TOOLS_LOCK", str(tmp_path / "tools.lock.json"))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        service = replace(SERVER, tools=functions, resources=(), prompts=())
        assert run(service, ["tools", "lock"]) == 0
        capsys.readouterr()
        code = run(service, ["tools", "check"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return check


def test_tools_check_prints_what_each_tool_costs(checked: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = checked(small, large)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["TOOL", "large", "small", "all"]
    assert int(rows[1][1]) + int(rows[2][1]) == int(rows[3][1])


def test_more_than_the_budget_fails_and_says_what_to_do(checked: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = checked(small, large, TOOLS_TOKEN_BUDGET="150")
    assert code == 1
    assert "more than TOOLS_TOKEN_BUDGET of 150. Shorten those that cost most" in err


def test_what_several_apis_lack_fails_by_the_name_of_the_tool(checked: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = checked(small, mapped)
    assert code == 1
    assert err.startswith("mapped: ")
    code, _, err = checked(small, mapped, MODEL_APIS="gemini")
    assert code == 0
    assert err.startswith("Note: mapped: ")


def test_an_unknown_api_is_an_error_of_the_settings(checked: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(AssertionError):
        checked(small, MODEL_APIS="mistral")


def test_without_scripts_only_the_approval_is_checked(
    checked: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed wheel has none."""
    monkeypatch.setattr(Service, "project", None)
    code, out, err = checked(small, mapped)
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
