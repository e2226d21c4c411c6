"""Rule tests in short: what Prometheus saw, and which alerts it must have made of it when.

Inputs are promtool's: ``"0x5 1x10"`` is six zeros and eleven ones, a minute apart unless the case
says otherwise; ``_`` is a missing sample, ``stale`` the end of a series. Expectations are written
out by hand; only texts without a value in them come from the alert.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

import exporter
from rules import render
from rules.alerts import ALERTS
from rules.recording import RECORDINGS
from rules.setting import Value
from rules.settings import defaults


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires: its labels beside severity and audience, and its description."""

    description: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    what: str
    """What the case shows."""
    series: Mapping[str, str]
    """Input, by series."""
    fires: Mapping[str, Sequence[Firing]]
    """Firing alerts, by the time at which to look."""
    interval: str = "1m"
    """Between two samples of the input."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An alert, where it must go, and its cases."""

    alert: str
    severity: str
    audience: str
    cases: Sequence[Case]
    settings: Mapping[str, Value] = field(default_factory=dict)
    """Values by path, where a case is about one."""
    evaluation: str = "1m"
    """Between two evaluations of the rules; longer where hours have to pass.

    No longer than 4m: promtool evaluates groups in any order, and what was recorded one evaluation
    before must not be out of sight.
    """


def check(watched: Watched, folder: Path) -> None:
    """Run the cases through promtool, on the alert's own rule and the recordings it needs."""
    rules, groups = folder / "rules.yaml", _groups(watched)
    rules.write_text(yaml.safe_dump({"groups": groups}))
    tests = folder / "tests.yaml"
    tests.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(rules)],
                # Else promtool takes the groups in any order, and alerts read old recordings.
                "group_eval_order": [group["name"] for group in groups],
                "evaluation_interval": watched.evaluation,
                "tests": [_test(watched, case) for case in watched.cases],
            }
        )
    )
    run = subprocess.run(
        ["promtool", "test", "rules", str(tests)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def group_names(*files: Path) -> list[str]:
    """Return the names of the files' groups in their order, as ``group_eval_order``."""
    return [group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]]


def _groups(watched: Watched) -> list[dict[str, object]]:
    """Render only what the alert needs: promtool evaluates every rule at each step."""
    settings = defaults()
    values = {
        path: path.startswith("groups.") if path.endswith(".enabled") else value
        for path, value in settings.values.items()
    }
    values |= {f"alerts.{watched.alert}.enabled": True, **watched.settings}
    files = render.rule_files(replace(settings, values=values))
    every = [group for file in files.values() for group in yaml.safe_load(file)["groups"]]
    needed = recordings_in(ALERTS[watched.alert].expr)
    for each in every:
        each["rules"] = [r for r in each["rules"] if r.get("record", "") in needed or "alert" in r]
    return [each for each in every if each["rules"]]


def recordings_in(expr: str) -> set[str]:
    """Find the recording rules that an expression needs, and those that they need."""
    found = {name for name in RECORDINGS if name in expr}
    for name in list(found):
        found |= recordings_in(RECORDINGS[name].expr)
    return found


def _test(watched: Watched, case: Case) -> dict[str, object]:
    return {
        "name": f"{watched.alert}: {case.what}",
        "interval": case.interval,
        "input_series": [{"series": s, "values": values} for s, values in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": watched.alert,
                "exp_alerts": [_expected(watched, firing) for firing in fires],
            }
            for at, fires in case.fires.items()
        ],
    }


def _expected(watched: Watched, firing: Firing) -> dict[str, object]:
    return {
        "exp_labels": {
            "severity": watched.severity,
            "audience": watched.audience,
            **firing.labels,
        },
        "exp_annotations": {
            "summary": ALERTS[watched.alert].summary,
            "description": firing.description,
            "runbook_url": f"{exporter.REPOSITORY}/blob/main/docs/runbooks/{watched.alert}.md",
        },
    }
