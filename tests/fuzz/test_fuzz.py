"""A short run of every fuzz target, always with the same inputs, and what the fuzzer does with a fault."""

import json
import random

import pytest

from .run import changed, fuzz, try_one
from .targets import CORPUS, TARGETS, corpus

INPUTS = {"http": 300, "token": 150, "lock": 300}
"""Changed inputs of each target, of the others 2,000: each takes less than two seconds."""


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_read_or_refused_as_it_should_be(name: str) -> None:
    order, seeds = random.Random(name), corpus(name)  # noqa: S311  (the same each time)
    for data in (*seeds, *(changed(order, seeds) for _ in range(INPUTS.get(name, 2000)))):
        try_one(TARGETS[name], name, data)


def test_every_target_has_a_small_corpus() -> None:
    texts = json.loads(CORPUS.read_text(encoding="utf-8"))
    assert texts.keys() == TARGETS.keys()
    assert CORPUS.stat().st_size < 20_000


def test_an_input_that_fails_is_printed_as_a_line_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(data: bytes) -> None:
        assert b".." not in data, "planted"

    monkeypatch.setitem(TARGETS, "path", check)
    tried, fault = fuzz("path", 5)
    assert tried >= 0
    assert "planted" in fault
    line = fault.splitlines()[-1]
    with pytest.raises(AssertionError, match="planted"):
        check(json.loads(line).encode("latin-1"))
