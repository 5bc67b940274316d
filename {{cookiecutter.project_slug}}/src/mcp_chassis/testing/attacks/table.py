"""`attack` on the command line: a bar while it runs, and a table at the end."""

import sys

from ...cli.terminal import table
from ...service import Service
from .run import Campaign, Finding, Subject

_BAR_WIDTH = 30


def attack_tools(service: Service, fixture: str = "", *, allow_unproved: bool = False) -> int:
    """Attack everything that `service` offers, print the findings and return the exit code."""
    found: dict[Subject, list[Finding]] = {}
    with Campaign(service, fixture) as campaign:
        for number, subject in enumerate(campaign.subjects):
            _progress(number, len(campaign.subjects), str(subject))
            found[subject] = campaign.attack(subject)
        _progress(len(campaign.subjects), len(campaign.subjects), "")
        calls = campaign.calls
    rows = [("SUBJECT", "CALLS THAT SUCCEEDED", "FINDINGS")]
    for one, some in found.items():
        rows.append((str(one), "{} of {}".format(*calls.get(one, (0, 0))), str(len(some)) if some else "-"))
    print(table(rows))
    if allow_unproved:
        found = {one: [finding for finding in some if finding.kind != "not proved"] for one, some in found.items()}
    for finding in (one for some in found.values() for one in some):
        print(f"\n{finding}")
    return 1 if any(found.values()) else 0


def _progress(done: int, of: int, what: str) -> None:
    if sys.stderr.isatty():
        bar = "#" * (_BAR_WIDTH * done // max(of, 1))
        end = "\n" if done == of else ""
        print(f"\r\x1b[2K[{bar:<{_BAR_WIDTH}}] {done}/{of} {what}", end=end, file=sys.stderr, flush=True)
