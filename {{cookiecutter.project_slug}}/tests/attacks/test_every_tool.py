"""Every tool, prompt and resource of the project, attacked in all its arguments. A new one is attacked by itself.

The attacks watch what only a success leaves behind: a file outside of every root that is read or written, a connection
to a listener, a command that ran, a secret in an answer. `attack`, on the command line, does the same with a table.
"""

from collections.abc import Iterator

import pytest

from .engine.run import Campaign, Subject, subjects


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    """A copy of the server in a process and a directory of its own, with its canaries."""
    with Campaign() as started:
        yield started


@pytest.mark.parametrize("subject", subjects(), ids=str)
def test_nothing_gives_way(campaign: Campaign, subject: Subject) -> None:
    findings = campaign.attack(subject)
    assert not findings, "\n\n" + "\n\n".join(map(str, findings))
