"""The words of this repository: plain terms of the field, in prose, names and messages."""

import re

import pytest
from test_repository import texts

REFUSED = {
    "mend": "fix",
    "mends": "fixes",
    "mended": "fixed",
    "dear": "expensive",
    "dearer": "more expensive",
    "somebody": "the caller, a client",
    "anybody": "any caller, any client",
    "nobody": "no caller, no client",
    "whoever": "the caller that, a client that",
    "unheard": "locked out",
    "put aside": "locked out",
    "hung up": "disconnected",
    "does without": "falls back",
    "for ever": "without limit",
    "lately": "the time, with its unit",
    "patience": "the time, with its unit",
    "in a moment": "the time, with its unit",
    "deaf": "a client that does not read",
    "is away": "is unavailable",
    "are told": "receive, are notified",
    "is told": "receives, is notified",
    "objections": "reasons not to serve",
    "speaks against": "reasons not to serve",
    "hygiene": "output filtering",
    "confession": "notice",
    "blot": "redaction mark",
}
"""Words that a reader trips over, and what to write instead."""
EXCEPTIONS = {
    "tests/test_words.py",
    "CHANGELOG.md",  # what earlier versions said
    "SCORECARD.md",  # written of promises and names of tests, which are checked where they are
    "UPGRADING.md",  # the names that an update replaces
    "{{cookiecutter.project_slug}}/src/mcp_chassis/approval/orders.py",  # words of attackers
}
USER = 'user = "nobody"'  # the Unix account
_ANY = re.compile(rf"(?<![a-z])({'|'.join(REFUSED).replace(' ', '[ _]')})(?![a-z])", re.IGNORECASE)


def refused_words(text: str) -> list[str]:
    """Return the refused words of a text, with what to write instead."""
    words = (found[1].lower().replace("_", " ") for found in _ANY.finditer(text.replace(USER, "")))
    return [f"{word}: write {REFUSED[word]}" for word in words]


@pytest.mark.parametrize("text", ["Whoever asks", "_PATIENCE = 5", "test_nobody_waits", "test_it_is_put_aside"])
def test_a_refused_word_is_found_in_prose_and_names(text: str) -> None:
    assert len(refused_words(text)) == 1


@pytest.mark.parametrize("text", ["recommend", "amended", "a blotter", "it is untold", USER])
def test_a_word_that_holds_a_refused_one_is_no_finding(text: str) -> None:
    assert refused_words(text) == []


def test_no_file_holds_a_refused_word() -> None:
    contents = {name: f"{name}\n{text}" for name, text in texts().items() if name not in EXCEPTIONS}
    found = {name: words for name, content in contents.items() if (words := refused_words(content))}
    assert contents
    assert found == {}
