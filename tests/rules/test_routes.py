"""Whom each alert reaches, asked of amtool."""

import re
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from rules import render
from rules.alerts import ALERT_GROUPS, ALERTS
from rules.settings import defaults
from setup.demo.routes import EXAMPLE

REACHES: Mapping[str, tuple[str, ...]] = {
    "pager": (
        "GPUDriverDown",
        "GPUExporterAbsent",
        "GPUHung",
        "GPULost",
        "GPURecoveryActionNeeded",
        "GPURowRemapFailed",
        "GPUXidResetGPU",
        "GPUXidRestartNode",
    ),
    "pager,owners": ("GPUOutOfMemoryLoop",),
    "owners": (
        "GPUContainerHostOOMKilled",
        "GPUContainerIdle",
        "GPUContainerUnderutilized",
        "GPUMemoryGrowing",
        "GPUMemoryHeldIdle",
        "GPUOutOfMemory",
        "GPUUnderutilized",
        "GPUXidApplication",
    ),
    "chat": (
        "GPUEccUncorrectable",
        "GPUExporterDown",
        "GPUExporterMissing",
        "GPUExporterSamplesStale",
        "GPUExporterSlow",
        "GPUExporterSourceDown",
        "GPUExporterUnresolvedClaims",
        "GPUFewerThanAdvertised",
        "GPUMemoryHot",
        "GPUNvlinkDown",
        "GPUNvlinkErrors",
        "GPUPcieLinkDegraded",
        "GPUPcieReplays",
        "GPUPowerBrakeSlowdown",
        "GPURetiredPages",
        "GPURowRemapPending",
        "GPUSlowerThanPeers",
        "GPUThermalSlowdown",
        "GPUUnreadable",
        "GPUUsedOutsidePods",
        "GPUXidHardware",
        "GPUXidUnknown",
    ),
    "nobody": (
        "GPULowActivity",
        "GPUMemoryNearlyFull",
        "GPUOutOfMemoryPossible",
        "GPUOversized",
        "GPUSharedOversubscribed",
        "GPUUnallocated",
        "GPUXidFollowUp",
    ),
    "dead-mans-switch": ("Watchdog",),
}


def every_alert() -> dict[str, dict[str, Any]]:
    """Return each alerting rule by its name, those that are off by default included."""
    settings = defaults()
    on = dict.fromkeys((group.switch for group in ALERT_GROUPS), True)
    files = render.rule_files(type(settings)({**settings.values, **on}, settings.prices))
    return {
        rule["alert"]: rule
        for content in files.values()
        for group in yaml.safe_load(content)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


RULES = every_alert()


def reached(labels: Mapping[str, str]) -> str:
    return subprocess.run(
        ["amtool", "config", "routes", "test", f"--config.file={EXAMPLE}"]
        + [f"{name}={value}" for name, value in labels.items()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_table_names_every_alert_once() -> None:
    assert sorted(name for names in REACHES.values() for name in names) == sorted(RULES)


@pytest.mark.parametrize(
    ("alert", "receivers"), [(name, to) for to, names in REACHES.items() for name in names]
)
def test_it_reaches(alert: str, receivers: str) -> None:
    own = dict.fromkeys(ALERTS[alert].labels, "x")
    assert reached({"alertname": alert, **own, **RULES[alert]["labels"]}) == receivers


def test_owners_are_known_by_namespace() -> None:
    for alert in (*REACHES["owners"], *REACHES["pager,owners"]):
        assert "namespace" in ALERTS[alert].labels


def test_what_has_no_namespace_has_no_owner() -> None:
    """DCGM-exporter tells of GPUs that no pod holds, too."""
    idle = {"alertname": "GPUUnderutilized", "severity": "warning", "audience": "owner"}
    assert reached(idle) == "chat"
    assert reached(idle | {"namespace": "lab"}) == "owners"


def test_what_nobody_thought_of_is_not_lost() -> None:
    assert reached({"alertname": "Other", "severity": "dire"}) == "chat"


def test_the_guide_is_about_this_example() -> None:
    guide = (EXAMPLE.parents[2] / "docs/alerting.md").read_text()
    example = yaml.safe_load(EXAMPLE.read_text())
    for each in (*example["receivers"], *example["time_intervals"]):
        assert f"`{each['name']}`" in guide
    table = guide.partition("| while this fires |")[2].partition("## ")[0]
    sources = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    matchers = [each for rule in example["inhibit_rules"] for each in rule["source_matchers"]]
    patterns = re.findall(r'alertname =~? "?([^"\n]+)', "\n".join(matchers))
    assert {name for row in sources for name in re.findall("`(.+?)`", row)} == {
        name
        for name in (*ALERTS, "KubeNodeNotReady", "KubeNodeUnreachable")
        if any(re.fullmatch(pattern, name) for pattern in patterns)
    }
