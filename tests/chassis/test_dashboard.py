"""The dashboard and the alerts ask for what the server exports: metrics, labels and, where they are few, values."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from baking import bake
from prometheus_client import REGISTRY

from mcp_chassis.events import log as events
from mcp_chassis.telemetry import metrics

from .support.project import PROJECT

FILES = PROJECT / "deploy" / "monitoring"
DASHBOARD = json.loads((FILES / "dashboard.json").read_text(encoding="utf-8"))
(GROUP,) = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [rule["expr"] for rule in GROUP["rules"]]
FUNCTIONS = {"sum", "by", "rate", "increase", "absent", "histogram_quantile"}
SELECTOR = re.compile(r"\b([a-z][a-z0-9_]*)\b(?!\s*\()(?:\{([^}]*)\})?(?=[\[){\s]|$)")
OF_FEW_VALUES = {"result", "decision", "limiter", "event", "severity"}


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, set[str]]]:
    """What the server exports after some calls: the values of each label, by metric."""
    assert events.KINDS
    metrics.count_http_request("/mcp", 500, 0.1)
    metrics.count_tool_call("hello_world", "timeout", 0.1)
    metrics.count_audit_lines(0, written=True)
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    known: dict[str, dict[str, set[str]]] = {}
    for sample in samples:
        labels = known.setdefault(sample.name, {})
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return known


def selectors(query: str) -> list[tuple[str, str]]:
    """Return the metrics a query names, each with its matchers."""
    plain = re.sub(r"\bby \([^)]*\)", "", query)
    return [(name, matchers) for name, matchers in SELECTOR.findall(plain) if name not in FUNCTIONS]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_what_exists(query: str, told: dict[str, dict[str, set[str]]]) -> None:
    found = selectors(query)
    assert found
    assert query.count("(") == query.count(")")
    for name, matchers in found:
        assert name in told, f"there is no metric {name}"
        for label, operator, value in re.findall(r'(\w+)(=~|=|!=|!~)"([^"]*)"', matchers):
            assert label in told[name], f"{name} has no label {label}"
            if label in OF_FEW_VALUES:
                wanted = value.split("|") if operator == "=~" else [value]
                assert set(wanted) <= told[name][label], f"{label} of {name} is never {value}"
    grouped = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", query) for label in labels.split(",")}
    for name, _ in found:
        assert grouped <= set(told[name]), f"{name} has not all of the labels {sorted(grouped)}"


@pytest.mark.parametrize("query", ["sum(mcp_open_conections)", 'rate(mcp_open_streams{sort="listen"}[5m])'])
def test_the_check_finds_a_slip(query: str, told: dict[str, dict[str, set[str]]]) -> None:
    with pytest.raises(AssertionError, match=r"there is no metric|has no label"):
        test_a_query_names_what_exists(query, told)


ABSENT = {"McpAuditRecordsLost", "McpTokensUnverifiable", "McpCallersAreLimited", "Audit trail"}


def test_without_an_optional_package_there_is_no_counter_no_alert_and_no_panel_of_it(tmp_path: Path) -> None:
    without = bake(tmp_path, audit_trail="no", rate_limit="none") / "deploy" / "monitoring"
    panels = json.loads((without / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    (group,) = yaml.safe_load((without / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    left_out = {panel["title"] for panel in DASHBOARD["panels"]} - {panel["title"] for panel in panels}
    left_out |= {rule["alert"] for rule in GROUP["rules"]} - {rule["alert"] for rule in group["rules"]}
    assert left_out == ABSENT
    program = "from mcp_chassis.telemetry.metrics import *; print(generate_latest(REGISTRY).decode())"
    source = str(without.parents[1] / "src")
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": source}, capture_output=True, check=True
    )
    assert b"mcp_security_events" in done.stdout
    assert b"audit" not in done.stdout


def test_the_dashboard_shows_every_metric() -> None:
    names = {name for query in QUERIES for name, _ in selectors(query)}
    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("mcp_")}
    assert {name for name in ours if not any(named.startswith(name) for named in names)} == set()


def test_panels_and_alerts_are_complete() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    places = [tuple(panel["gridPos"].values()) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    for target in (target for panel in DASHBOARD["panels"] for target in panel["targets"]):
        legend = set(re.findall(r"\w+", " ".join(re.findall(r"{[{](.*?)[}]}", target["legendFormat"]))))
        assert all(label in target["expr"] for label in legend)
    for rule in GROUP["rules"]:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
