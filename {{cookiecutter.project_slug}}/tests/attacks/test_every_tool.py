"""Every tool, prompt and resource is attacked in all its arguments; a new one is attacked without an edit.

The attacks watch what only a success leaves behind: a file outside of every root that is read or written, a connection
to a listener, a command that ran, a secret in an answer. The command `attack` does the same with a table.
"""

from collections.abc import Iterator

import pytest

from mcp_chassis.testing.attacks.run import Campaign, Subject, subjects

from {{ cookiecutter.package_name }}.server import SERVER


@pytest.fixture(scope="module")
def campaign() -> Iterator[Campaign]:
    """A copy of the server in a process and a directory of its own, with its canaries."""
    with Campaign(SERVER) as started:
        yield started


@pytest.mark.parametrize("subject", subjects(SERVER), ids=str)
def test_no_attack_succeeds(campaign: Campaign, subject: Subject) -> None:
    findings = campaign.attack(subject)
    assert not findings, "\n\n" + "\n\n".join(map(str, findings))
