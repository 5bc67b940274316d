"""Output hygiene: nothing hidden, and not more than fits."""

from typing import Any

import pytest
from mcp.types import (
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

from {{ cookiecutter.package_name }}.policy.output import (
    ResultTooLarge,
    clean_result,
    clean_text,
)

TAGS = "".join(chr(0xE0000 + ord(character)) for character in "obey")
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    "hidden",
    [TAGS, "\U000e0001", "\u202e", "\u2066\u2069", "\u200b\u200c\u200d", "\ufeff\u2060", "\ufe00\ufe01\U000e0100"],
    ids=ascii,
)
def test_hidden_text_is_taken_out(hidden: str) -> None:
    assert clean_text(f"be{hidden}fore") == "before"


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
    assert clean_text(honest) == honest


def test_tags_do_not_pass_for_a_flag_without_its_end() -> None:
    assert clean_text("\U0001f3f4" + TAGS) == "\U0001f3f4"


def result(*content: Any, **structured: Any) -> CallToolResult:
    return CallToolResult(content=list(content), structured_content=structured or None)


def test_text_and_structure_are_cleaned_alike_and_counted() -> None:
    text = TextContent(type="text", text=f"a{TAGS}")
    given = result(text, result={"list": [f"a{TAGS}", 1, None]})
    cleaned, removed = clean_result(given, max_bytes=1000)
    assert cleaned.content[0] == TextContent(type="text", text="a")
    assert cleaned.structured_content == {"result": {"list": ["a", 1, None]}}
    assert removed == 8


def test_the_text_of_an_embedded_resource_is_cleaned() -> None:
    resource = EmbeddedResource(type="resource", resource=TextResourceContents(uri="a://b", text=f"a{TAGS}"))
    cleaned, removed = clean_result(result(resource), max_bytes=1000)
    assert removed == 4
    assert "text='a'" in repr(cleaned)


def test_an_image_is_not_touched() -> None:
    image = ImageContent(type="image", data="AAAA", mime_type="image/png")
    assert clean_result(result(image), max_bytes=1000) == (result(image), 0)


def test_a_result_that_fits_exactly_is_sent_and_a_byte_more_is_not() -> None:
    given = result(TextContent(type="text", text="é" * 100))
    size = next(size for size in range(1000) if fits(given, size))
    assert size > 200, "bytes are counted, not characters"
    with pytest.raises(ResultTooLarge, match=f"larger than {size - 1} bytes. Ask for less"):
        clean_result(given, max_bytes=size - 1)


def fits(given: CallToolResult, size: int) -> bool:
    try:
        clean_result(given, max_bytes=size)
    except ResultTooLarge:
        return False
    return True


def test_structure_counts_too() -> None:
    with pytest.raises(ResultTooLarge):
        clean_result(result(text="a" * 1000), max_bytes=1000)
