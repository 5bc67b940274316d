"""The page on public catalogues: current, and every answer names a promise or a test that exists."""

import tomllib

from standards import PAGE, ROOT, catalogues, page

PROMISES = tomllib.loads((ROOT / "tests" / "promises.toml").read_text(encoding="utf-8"))
ENTRIES = [entry for catalogue in catalogues() for entry in catalogue["entry"]]


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/standards.py`"


def test_every_entry_is_answered_with_proof_or_says_why_it_is_not_covered() -> None:
    for entry in ENTRIES:
        proof = [*entry.get("promises", ()), *entry.get("tests", ())]
        assert bool(proof and entry.get("answer")) != bool(entry.get("not_covered")), entry["id"]
    assert len(ENTRIES) == 46


def test_every_promise_and_test_exists() -> None:
    """Each promise is tested: the scorecard's tests see to that."""
    for entry in ENTRIES:
        assert set(entry.get("promises", ())) <= set(PROMISES), entry["id"]
        assert all((ROOT / test).is_file() for test in entry.get("tests", ())), entry["id"]
