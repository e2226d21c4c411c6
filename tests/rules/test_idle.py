"""Idle is one thing: what the alert fires on is what the dashboards count."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards import generate as dashboards
from exporter.model.snapshot import IDLE_RATIO
from rules import render
from rules.settings import GENERAL, defaults
from tests.rules.promtool import group_names
from tests.rules.things import HELD, info

PULSES = " ".join(f"{5 * i}x19" for i in range(10))
"""Five seconds of work every twenty minutes: 0.28 %."""
SERIES = {
    f"gpu_container_busy_seconds_total{{{HELD}}}": PULSES,
    f"gpu_container_allocated_seconds_total{{{HELD}}}": "0+60x200",
    f"gpu_container_idle_seconds{{{HELD}}}": " ".join(["0+60x19"] * 10),
    info(): "1x200",
}


def panel(dashboard: str, title: str) -> str:
    """Return the query of a dashboard's panel, with everything chosen."""
    page = json.loads(dashboards.generated()[f"dashboards/generated/{dashboard}.json"])
    (found,) = (each for each in page["panels"] if each["title"] == title)
    return re.sub(r'=~"\$\w+"', '=~".*"', found["targets"][0]["expr"])


@pytest.mark.parametrize(
    ("dashboard", "title"), [("gpu-fleet", "Allocated but idle"), ("gpu-workload", "Idle devices")]
)
def test_the_dashboards_count_what_the_alert_fires_on(
    dashboard: str, title: str, tmp_path: Path
) -> None:
    for name, content in render.rule_files(defaults()).items():
        (tmp_path / name).write_bytes(content)
    alert = 'count(ALERTS{alertname="GPUContainerIdle", alertstate="firing"})'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in SERIES.items()],
        "promql_expr_test": [
            {"expr": expr, "eval_time": "135m", "exp_samples": [{"labels": "{}", "value": 1}]}
            for expr in (panel(dashboard, title), alert)
        ],
    }
    files = [tmp_path / "recording.yaml", tmp_path / "underuse.yaml"]
    whole = {
        "rule_files": [str(file) for file in files],
        "group_eval_order": group_names(*files),
        "evaluation_interval": "1m",
        "tests": [test],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(whole))
    run = subprocess.run(
        ["promtool", "test", "rules", "test.yaml"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_threshold_is_the_exporter_s() -> None:
    assert GENERAL["idleRatio"].default == IDLE_RATIO


def test_a_user_s_threshold_reaches_alert_and_dashboards_alike() -> None:
    settings = defaults()
    changed = render.rule_files(
        type(settings)({**settings.values, "idleRatio": 0.05, "idleWindow": "1h"}, {})
    )
    rules = yaml.safe_load(changed["recording.yaml"])["groups"][0]["rules"]
    recorded = {rule["record"]: rule["expr"] for rule in rules}
    assert recorded["allocation:gpu_idle:bool"].endswith("< bool 0.05")
    assert "[1h]" in recorded["allocation:gpu_recent_use:ratio"]
    assert b"less than {{ 0.05 | humanizePercentage }}" in changed["underuse.yaml"]
