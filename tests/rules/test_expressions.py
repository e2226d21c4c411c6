"""Every expression speaks of what there is: metrics, labels, joins, and what users are told."""

import re
from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules import render
from rules.alerts import ALERT_GROUPS, ALERTS
from rules.recording import RECORDINGS
from rules.settings import GENERAL, Settings, defaults
from tests.rules import (
    test_dcgm_alert,
    test_efficiency_alerts,
    test_exporter_alerts,
    test_hardware_alerts,
    test_memory_alerts,
    test_performance_alerts,
    test_underuse_alerts,
    test_xid_alerts,
)
from tests.rules.vocabulary import UnknownError, labels, unique

RUNBOOKS = Path(__file__).parents[2] / "docs/runbooks"
TESTED = (
    test_dcgm_alert,
    test_efficiency_alerts,
    test_exporter_alerts,
    test_hardware_alerts,
    test_memory_alerts,
    test_performance_alerts,
    test_underuse_alerts,
    test_xid_alerts,
)


def everything() -> Settings:
    settings = defaults()
    on = {path: True for path in settings.values if path.endswith(".enabled")}
    return replace(settings, values={**settings.values, **on}, prices={"NVIDIA H200": 3.5})


def rules() -> dict[str, dict[str, Any]]:
    files = render.rule_files(everything()).values()
    groups = chain.from_iterable(yaml.safe_load(file)["groups"] for file in files)
    each = chain.from_iterable(group["rules"] for group in groups)
    return {rule.get("alert") or rule["record"]: rule for rule in each}


RULES = rules()


@pytest.mark.parametrize("name", RULES)
def test_labels(name: str) -> None:
    """A result has exactly the labels that its rule declares: none more, which would be noise."""
    rule = RULES[name]
    declared = ALERTS[name].labels if "alert" in rule else RECORDINGS[name].labels
    own = set() if "alert" in rule else set(rule.get("labels", {}))
    assert labels(rule["expr"]) | own == set(declared)


@pytest.mark.parametrize("name", RULES)
def test_joins(name: str) -> None:
    """The side of a join that must have one series for each of the other has no more."""
    unique(RULES[name]["expr"])


@pytest.mark.parametrize(
    "wrong",
    [
        "gpu_utilisation_ratio",
        'gpu_info{modell="x"}',
        "sum by (pod) (gpu_utilization_ratio)",
        "gpu_utilization_ratio * on (node, pod) group_left () gpu_info",
        "gpu_utilization_ratio * on (node) group_left (pod) gpu_info",
        "gpu_memory_used_bytes / gpu_container_memory_limit_bytes",
        "rate(gpu_utilization_ratio[5m])",
        "predict_linear(gpu_busy_seconds_total[5m], 60)",
        "sum without (gpu) (gpu_utilization_ratio)",
        'label_replace(gpu_info, "a", "$1", "b", "(.*)")',
        'gpu_exporter_gpu_state{state="lost"}',
        'gpu_exporter_source_up{source!~"nvml|simulted"}',
        'gpu_xid_last_timestamp_seconds{action=~"check_.+|update_drivers"}',
        'gpu_recovery_action{action!="none"}',
        'gpu_allocation_info{sharing=~"time-sliced|mps"}',
        'gpu_container_oom_events_total{confidence="certain"}',
        'gpu_clock_event_seconds_total{reason=~"(hv|sv)_thermal_slowdown"}',
        'gpu_temperature_celsius{sensor="hbm"}',
        'gpu_temperature_threshold_celsius{threshold="memory"}',
        'gpu_ecc_errors_total{severity="uncorrectable"}',
        'gpu_clock_hertz{domain="shader"}',
    ],
)
def test_what_can_not_be_is_found(wrong: str) -> None:
    with pytest.raises(UnknownError):
        labels(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        "gpu_utilization_ratio * on (node, uuid) group_left (model) gpu_info",
        "max by (node, gpu) (gpu_info) * on (node) group_left () max by (node, uuid) (gpu_info)",
        "max by (node, uuid) (gpu_info) / on (node) max by (node) (gpu_info)",
    ],
)
def test_joins_that_may_fail_are_found(wrong: str) -> None:
    with pytest.raises(UnknownError):
        unique(wrong)


@pytest.mark.parametrize("name", ALERTS)
def test_texts(name: str) -> None:
    """A text names only labels that the alert has, and is short where it must be."""
    alert, rule = ALERTS[name], RULES[name]
    said = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    assert said <= set(alert.labels)
    assert "{{" not in alert.summary
    assert alert.summary.endswith(".")
    assert alert.summary.count(". ") == 0
    assert rule["annotations"]["runbook_url"].endswith(f"/{name}.md")


@pytest.mark.parametrize("name", ALERTS)
def test_settings_are_used(name: str) -> None:
    alert = ALERTS[name]
    used = set(re.findall(r"\$\{(\w+)\}", alert.filled_expr + alert.filled_description))
    own = set(alert.settings)
    assert own <= used <= own | set(GENERAL)


def test_severities() -> None:
    """Nothing pages for underuse; on application errors only what will not mend itself does."""
    critical = {name for name, alert in ALERTS.items() if alert.severity == "critical"}
    assert not critical & {alert.name for alert in ALERT_GROUPS[0].alerts}
    owners = {name for name, alert in ALERTS.items() if alert.audience == "owner"}
    assert critical & owners == {"GPUOutOfMemoryLoop"}


@pytest.mark.parametrize("name", ALERTS)
def test_runbook(name: str) -> None:
    """Each has its parts, two commands, and queries that can be."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert re.findall(r"^#+ (.*)$", text, re.MULTILINE) == [
        name,
        "What it means",
        "Confirm",
        "What to do",
        "Silence or exempt",
    ]
    commands = text.partition("```sh\n")[2].partition("```")[0].splitlines()
    assert len(commands) == 2
    for command in commands:
        if query := re.fullmatch(r"promtool query instant \$PROMETHEUS '(.*)'", command):
            labels(query[1])
    if scope := re.search(rf"alertname={name} (.*)$", text, re.MULTILINE):
        matched = {matcher.partition("=")[0] for matcher in scope[1].split()}
        assert matched <= set(ALERTS[name].labels)
    for metric in re.findall(r"`((?:gpu|DCGM)_\w+)", text):
        labels(metric)


def test_no_runbook_without_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_cases(name: str) -> None:
    """Each alert is seen to fire and not to fire, in three cases or more."""
    cases = [
        case
        for module in TESTED
        for watched in module.WATCHED
        if watched.alert == name
        for case in watched.cases
    ]
    assert len(cases) >= 3
    seen = Counter(bool(fires) for case in cases for fires in case.fires.values())
    assert seen[True] >= 1
    assert name == "Watchdog" or seen[False] >= 2
