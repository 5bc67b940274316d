"""Output filtering: nothing hidden, and not more than fits."""

from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

from mcp_chassis.calls.outcome import classify
from mcp_chassis.calls.output import Output, ResultTooLarge
from mcp_chassis.events.log import EventLog
from mcp_chassis.sinks.hidden import without_hidden

TAGS = "".join(chr(0xE0000 + ord(character)) for character in "obey")
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    "hidden",
    [TAGS, "\U000e0001", "\u202e", "\u2066\u2069", "\u200b\u200c\u200d", "\ufeff\u2060", "\ufe00\ufe01\U000e0100"],
    ids=ascii,
)
def test_hidden_text_is_taken_out(hidden: str) -> None:
    assert without_hidden(f"be{hidden}fore") == "before"


@pytest.mark.parametrize(
    "honest",
    [
        "plain",
        "Zoë Müller",
        "مرحبا بالعالم",
        "می\u200cخواهم",  # Persian is spelled with single non-joiners
        "क्\u200dष नमस्ते",
        "你好",
        "👨\u200d👩\u200d👧",
        "❤\ufe0f",
        "❤\ufe0f\u200d🔥",
        "🇮🇳",
        ENGLAND,
    ],
)
def test_honest_text_stays_as_it_is(honest: str) -> None:
    assert without_hidden(honest) == honest


@pytest.mark.parametrize("end", ["", "\U000e007f"])
def test_tags_do_not_pass_for_a_flag(end: str) -> None:
    assert without_hidden("\U0001f3f4" + TAGS + end) == "\U0001f3f4"


def result(*content: Any, **structured: Any) -> CallToolResult:
    return CallToolResult(content=list(content), structured_content=structured or None)


def test_text_and_structure_are_cleaned_alike_and_counted() -> None:
    text = TextContent(type="text", text=f"a{TAGS}")
    given = result(text, result={"list": [f"a{TAGS}", 1, None]})
    events = EventLog()
    cleaned = Output(events=events, max_bytes=1000).fit(given, {"tool": "a"})
    assert cleaned.content[0] == TextContent(type="text", text="a")
    assert cleaned.structured_content == {"result": {"list": ["a", 1, None]}}
    (event,) = events.recent()
    assert event["details"] == {"reason": "hidden_text", "removed": 8, "tool": "a"}


def test_an_error_that_names_a_file_in_no_encoding_can_be_sent() -> None:
    outcome = classify(ToolError("there is no \udcff.txt"))
    assert outcome is not None
    assert outcome.message == "there is no ?.txt"


def test_the_text_of_an_embedded_resource_is_cleaned() -> None:
    resource = EmbeddedResource(type="resource", resource=TextResourceContents(uri="a://b", text=f"a{TAGS}"))
    assert "text='a'" in repr(Output(events=EventLog(), max_bytes=1000).fit(result(resource), {}))


def test_an_image_is_not_touched() -> None:
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    events = EventLog()
    assert Output(events=events, max_bytes=1000).fit(result(image), {}) == result(image)
    assert not events.recent()


def test_a_result_that_fits_exactly_is_sent_and_a_byte_more_is_not() -> None:
    given = result(TextContent(type="text", text="é" * 100))
    size = next(size for size in range(1000) if fits(given, size))
    assert size > 200, "bytes are counted, not characters"
    with pytest.raises(ResultTooLarge, match=f"larger than {size - 1} bytes. Ask for less"):
        Output(events=EventLog(), max_bytes=size - 1).fit(given, {})


def fits(given: CallToolResult, size: int) -> bool:
    try:
        Output(events=EventLog(), max_bytes=size).fit(given, {})
    except ResultTooLarge:
        return False
    return True


def test_structure_counts_too() -> None:
    with pytest.raises(ResultTooLarge):
        Output(events=EventLog(), max_bytes=1000).fit(result(text="a" * 1000), {})
