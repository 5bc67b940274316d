"""Runs the official conformance suite against a server and reads what it found."""

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ..support.node import Node

PACKAGE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
REVISIONS = ["2025-11-25", "2026-07-28"]
"""What the server offers and the suite has a list of scenarios for."""

_HERE = Path(__file__).parent
_RUNNING = re.compile(r"^=== Running scenario: (.+) ===$", re.MULTILINE)
_WIRE = "wire-schema-valid"  # beside a scenario's own checks: every message matched the schema


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended.

    Args:
        proven: whether it has shown what it is for; one that found nothing to look at has not.
        findings: what it said of each check that did not succeed.
    """

    proven: bool
    findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Excepted:
    """Scenarios that are known not to pass: the pattern of their names, what the suite finds, and why that is right."""

    revision: str
    scenarios: str
    finding: str
    reason: str


def run_suite(
    node: Node, url: str, key: str, results: Path, *, revision: str, scenario: str | None = None
) -> dict[str, Outcome]:
    """Run the scenarios that a revision requires, or one of them, and return how they ended, by name.

    Args:
        node: runs the suite.
        url: of the MCP endpoint.
        key: the credential of every request.
        results: an empty directory for the suite's own records.
        revision: of the protocol.
        scenario: its name; all that are required by default.
    """
    program = node.package(PACKAGE) / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    preload = ("--import", (_HERE / "credential.mjs").as_uri())
    which = ("--scenario", scenario, "--spec-version", revision) if scenario else ("--requirements", revision)
    done = subprocess.run(
        [node.program, *preload, str(program), "server", "--url", url, "-o", str(results), *which],
        env=os.environ | {"MCP_KEY": key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    names = [scenario] if scenario else _RUNNING.findall(done.stdout)
    assert names, f"the suite ran nothing:\n{done.stdout}{done.stderr}"
    return {name: _outcome(results, name) for name in names}


def _outcome(results: Path, scenario: str) -> Outcome:
    records = list(results.glob(f"server-{scenario}-[0-9][0-9][0-9][0-9]-*/checks.json"))
    if not records:
        return Outcome(False, ("the suite has left no record",))
    checks: list[dict[str, Any]] = [check for record in records for check in json.loads(record.read_text("utf-8"))]
    findings = [check for check in checks if check["status"] in ("FAILURE", "WARNING")]
    proven = any(check["status"] == "SUCCESS" and check["id"] != _WIRE for check in checks)
    if not proven and not findings:
        findings = checks
    return Outcome(proven and not findings, tuple(map(_finding, findings)))


def _finding(check: dict[str, Any]) -> str:
    return f"{check['id']}: {check.get('errorMessage') or check.get('details', {}).get('message') or check['status']}"


def read_exceptions() -> list[Excepted]:
    """Return the list of scenarios that are known not to pass."""
    document = tomllib.loads((_HERE / "exceptions.toml").read_text("utf-8"))
    return [Excepted(**entry) for entry in document["exceptions"]]


def problems(outcomes: dict[str, Outcome], exceptions: list[Excepted]) -> list[str]:
    """Return what is wrong with the outcomes of a revision and with its exceptions, a sentence each."""
    found = []
    for name, outcome in outcomes.items():
        excepted = next((entry for entry in exceptions if fnmatchcase(name, entry.scenarios)), None)
        if excepted is None:
            if not outcome.proven:
                found.append(f"{name} does not pass: {'; '.join(outcome.findings)}")
        elif outcome.proven:
            found.append(f"{name} passes: remove it from exceptions.toml")
        elif unlike := [finding for finding in outcome.findings if excepted.finding not in finding]:
            found.append(f"{name} fails otherwise than exceptions.toml says: {'; '.join(unlike)}")
    for entry in exceptions:
        if not any(fnmatchcase(name, entry.scenarios) for name in outcomes):
            found.append(f"{entry.scenarios} is no scenario of the suite: remove it from exceptions.toml")
        if not entry.reason.strip():
            found.append(f"{entry.scenarios} has no reason in exceptions.toml: write one")
    return found
