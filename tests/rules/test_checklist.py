"""What `pint lint` looks for in rules without a server, walked here: its names are in the tests'.

Metrics, labels and joins (promql/series, vector_matching, aggregate, impossible) are in
test_expressions.py; syntax and duplicates (promql/syntax, rule/duplicate) are promtool's.
"""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest

from rules import render
from tests.rules.test_expressions import RULES, everything

ALERTING = {name: rule for name, rule in RULES.items() if "alert" in rule}
RECORDING = {name: rule for name, rule in RULES.items() if "record" in rule}
EVENTS = {"XID", "Ecc", "OOM", "OutOfMemory", "Nvlink", "Xid", "Watchdog"}
VERDICTS = {"GPULost"}
"""What the exporter has made sure of already; so it pages in one message with the XID."""


def nodes(rule: dict[str, Any]) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(promql.parse(rule["expr"]), found.append)
    return found


def selectors(rule: dict[str, Any]) -> list[promql.VectorSelector]:
    return [
        node.vector_selector if isinstance(node, promql.MatrixSelector) else node
        for node in nodes(rule)
        if isinstance(node, promql.VectorSelector | promql.MatrixSelector)
    ]


def test_promtool_check(tmp_path: Path) -> None:
    """promql/syntax, rule/duplicate."""
    files = render.rule_files(everything())
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    run = subprocess.run(
        ["promtool", "check", "rules", "--lint-fatal", *files],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", ALERTING)
def test_annotations_and_labels(name: str) -> None:
    """alerts/annotation, rule/label."""
    rule = ALERTING[name]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert set(rule["labels"]) == {"severity", "audience"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}


@pytest.mark.parametrize("name", ALERTING)
def test_for(name: str) -> None:
    """alerts/for: no alert at the first sign, unless it is on an event that has happened."""
    happened = name in VERDICTS or any(event in name for event in EVENTS)
    assert "for" in ALERTING[name] or happened
    assert ALERTING[name].get("for") != "0s"


@pytest.mark.parametrize("name", ALERTING)
def test_comparison(name: str) -> None:
    """alerts/comparison: a condition, and not simply whatever series there are."""
    operators = {str(n.op) for n in nodes(ALERTING[name]) if isinstance(n, promql.BinaryExpr)}
    compares = operators & {"<", ">", "<=", ">=", "==", "!="}
    assert compares or name in {"Watchdog", "GPUExporterAbsent"}


@pytest.mark.parametrize("name", ALERTING)
def test_templates(name: str) -> None:
    """alerts/template: no raw number where a rate, a ratio or a duration is told."""
    rule = ALERTING[name]
    for value in re.findall(r"\{\{ (\$value[^}]*) \}\}", rule["annotations"]["description"]):
        whole = "|" in value or not re.search(r"rate\(|increase\(|_over_time\(|/", rule["expr"])
        assert whole or name in {"GPUNvlinkDown", "GPUPcieLinkDegraded", "GPUUnallocated"} | {
            "GPUFewerThanAdvertised",
            "GPUUnderutilized",
        }


@pytest.mark.parametrize("name", RULES)
def test_windows(name: str) -> None:
    """promql/rate: a window holds four scrapes at a minute's interval at the least."""
    for node in nodes(RULES[name]):
        if isinstance(node, promql.MatrixSelector):
            assert node.range.total_seconds() >= 240


@pytest.mark.parametrize("name", RULES)
def test_selectors(name: str) -> None:
    """promql/regexp, promql/selector: patterns that need to be ones, without anchors."""
    for selector in selectors(RULES[name]):
        for matcher in selector.matchers.matchers:
            if "Re" in str(matcher.op):
                assert not matcher.value.startswith("^")
                assert not matcher.value.endswith("$")
                assert re.search(r"[.*+|()\[]", matcher.value) or matcher.name == "namespace"


@pytest.mark.parametrize("name", RULES)
def test_fragile(name: str) -> None:
    """promql/fragile: topk and bottomk pick one of a thing's series, never some of all."""
    for node in nodes(RULES[name]):
        if isinstance(node, promql.AggregateExpr) and str(node.op) in {"topk", "bottomk"}:
            assert node.modifier is not None
            assert {"node"} <= set(node.modifier.labels)


@pytest.mark.parametrize("name", RULES)
def test_bounded(name: str) -> None:
    """No expression selects a family and lets each of its series through."""
    from tests.rules.vocabulary import labels  # noqa: PLC0415

    assert not {"job", "instance"} & labels(RULES[name]["expr"]) or name == "GPUExporterDown"


@pytest.mark.parametrize("name", RECORDING)
def test_names(name: str) -> None:
    """rule/name, rule/reserved: level:metric:operation, and none is recorded twice."""
    assert re.fullmatch(r"[a-z]+:gpu_[a-z_]+:[a-z0-9_]+", name)


def test_dependencies() -> None:
    """rule/dependency: what a recording rule reads was recorded before it, in its group or so."""
    order = list(RECORDING)
    for name, rule in RECORDING.items():
        for selector in selectors(rule):
            if selector.name in RECORDING:
                assert order.index(selector.name) < order.index(name)


def test_no_name_twice() -> None:
    text = b"".join(render.rule_files(everything()).values()).decode()
    counts = Counter(re.findall(r"- (?:alert|record): (\S+)", text))
    assert [name for name, count in counts.items() if count > 1] == []
