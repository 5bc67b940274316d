"""Counting words, with progress."""

import pytest

from mcp_chassis.testing.running import RunningServer


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_words_are_counted_and_progress_is_reported(server: RunningServer, mode: str) -> None:
    told: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))

    async with server.client(mode) as client:
        text = "one two\n" * 100 + "three"
        result = await client.call_tool("count_words", {"text": text}, progress_callback=note)
    assert result.structured_content == {"result": 201}
    assert told == sorted(told)
    assert told[-1] == (101, 101)
    assert 10 < len(told) <= 21


def test_without_asking_for_progress_there_is_only_the_answer(server: RunningServer) -> None:
    answer = server.call("count_words", {"text": " a  b\n\n"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"]["structuredContent"] == {"result": 2}
