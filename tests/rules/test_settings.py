"""Settings: a user's file, what it changes, and what it is told when it is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.document import DocumentError
from rules import render
from rules.settings import defaults, table
from rules.settings_file import read_settings


def rules(text: str, folder: Path, scale: float = 1) -> dict[str, dict[str, Any]]:
    """Render what a settings file makes, by name."""
    (folder / "settings.yaml").write_text(text)
    files = render.rule_files(read_settings(folder / "settings.yaml"), scale).values()
    return {
        rule.get("alert") or rule["record"]: rule
        for file in files
        for group in yaml.safe_load(file)["groups"]
        for rule in group["rules"]
    }


def test_a_file_changes_what_it_says(tmp_path: Path) -> None:
    made = rules(
        """
        exemptNamespaces: [kube-system, gpu-operator]
        grace: 2h
        runbooksUrl: https://wiki/gpu/
        dashboardsUrl: https://grafana
        alerts:
          GPUContainerIdle: {for: 1m30s, severity: info, keepFiringFor: 0s}
          GPUOutOfMemoryLoop: {window: 10m}
          GPUHung: {enabled: false}
        """,
        tmp_path,
    )
    idle = made["GPUContainerIdle"]
    assert 'namespace!~"kube-system|gpu-operator"}' in idle["expr"]
    assert "[10m]" in made["GPUOutOfMemoryLoop"]["expr"]
    assert "offset 2h" in idle["expr"]
    assert idle["for"] == "1m30s"
    assert "keep_firing_for" not in idle
    assert idle["labels"]["severity"] == "info"
    assert idle["annotations"]["runbook_url"] == "https://wiki/gpu/GPUContainerIdle.md"
    assert idle["annotations"]["dashboard_url"] == (
        "https://grafana/d/gpu-workload?var-node={{ $labels.node }}"
        "&var-namespace={{ $labels.namespace }}&var-pod={{ $labels.pod }}"
        "&var-gpu={{ $labels.gpu }}"
    )
    assert "GPUHung" not in made
    assert made["GPUUnreadable"]["for"] == "10m"


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert rules("# nothing\n", tmp_path)
    assert read_settings(tmp_path / "settings.yaml") == defaults()


def test_groups_are_switched(tmp_path: Path) -> None:
    made = rules("groups: {underuse: {enabled: false}, dcgm: {enabled: true}}", tmp_path)
    assert "GPUContainerIdle" not in made
    assert "GPUUnderutilized" in made
    assert "namespace:gpu_busy:ratio_rate1h" not in made
    made = rules("groups: {reports: {enabled: true}}", tmp_path)
    assert "namespace:gpu_busy:ratio_rate1h" in made


def test_every_place_takes_the_one_grammar_of_durations(tmp_path: Path) -> None:
    made = rules("alerts: {GPUHung: {for: 90}, GPULost: {for: 1w}}\ngrace: '5400'", tmp_path)
    assert made["GPUHung"]["for"] == "90s"
    assert made["GPULost"]["for"] == "1w"
    assert "90m" in made["GPUContainerIdle"]["expr"]


def test_prices_are_rules(tmp_path: Path) -> None:
    made = rules("prices: {NVIDIA H200: 3.5}", tmp_path)
    assert made["model:gpu_hourly_cost:price"] == {
        "record": "model:gpu_hourly_cost:price",
        "expr": "vector(3.5)",
        "labels": {"model": "NVIDIA H200"},
    }


def test_scale_shrinks_every_duration(tmp_path: Path) -> None:
    made = rules("grace: 2h\ngroups: {reports: {enabled: true}}", tmp_path, scale=60)
    idle = made["GPUContainerIdle"]
    assert "[15s] offset 2m" in idle["expr"]
    assert "max by (node, namespace, pod, container, gpu, uuid)" in idle["expr"]
    use = made["allocation:gpu_recent_use:ratio"]["expr"]
    assert "gpu_container_allocated_seconds_total[30s]" in use
    assert made["allocation:gpu_idle:bool"]["expr"].endswith("< bool 0.01")
    assert (idle["for"], idle["keep_firing_for"]) == ("5s", "10s")
    assert made["namespace:gpu_allocated:hours1d"]["expr"].startswith(
        "sum_over_time(namespace:gpu_allocated:gpus[24m:1s])"
    )
    assert "for" not in made["GPUOutOfMemory"]
    assert "[5s]" in made["allocation:gpu_allocation:last5m"]["expr"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("grace: soon", 1, "grace: 'soon' is not a duration (such as 5s)"),
        ("grace: 1.5m", 1, "grace: '1.5m' is not a duration (write 90s)"),
        ("grace: 0s", 1, "grace: expected a duration that is longer than 0s"),
        ("\n\nalert: {}", 3, "alert: no such setting; did you mean alerts?"),
        (
            "alerts:\n  GPUHang: {for: 5m}",
            2,
            "alerts.GPUHang: no such setting; did you mean GPUHung?",
        ),
        (
            "alerts:\n  GPULost:\n    four: 5m",
            3,
            "alerts.GPULost.four: no such setting; did you mean",
        ),
        ("alerts:\n  GPULost: {for: -5m}", 2, "for: '-5m' is not a duration"),
        (
            "alerts:\n  GPULost: {severity: page}",
            2,
            "severity: expected one of critical, warning, info, none, got 'page'",
        ),
        ("alerts:\n  GPULost: {enabled: 1}", 2, "enabled: expected true or false, got '1'"),
        ("alerts: [GPULost]", 1, "alerts: expected a mapping of keys to values, got a list"),
        (
            "alerts:\n  GPUContainerUnderutilized: {busy: 95}",
            2,
            "busy: expected a ratio from 0 to 1, got '95'",
        ),
        (
            "alerts:\n  GPUOutOfMemoryLoop: {events: -1}",
            2,
            "events: expected a number, 0 or more, got '-1'",
        ),
        (
            "alerts:\n  GPUOutOfMemoryLoop: {events: [1]}",
            2,
            "events: expected a number, 0 or more, got a list",
        ),
        ("exemptNamespaces: lab", 1, "exemptNamespaces: expected a list, got 'lab'"),
        (
            "exemptNamespaces:\n- lab\n- Lab|x",
            3,
            "exemptNamespaces: 'Lab|x' is not the name of a namespace",
        ),
        ("job: (", 1, "job: '(' is not a regular expression"),
        ("\njob: gpu(?!-test)", 2, "job: 'gpu(?!-test)' is not a regular expression: Prometheus"),
        ("job: (?<=gpu-)exporter", 1, "job: '(?<=gpu-)exporter' is not a regular expression: P"),
        ("job: (?P<a>gpu)(?P=a)", 1, "job: '(?P<a>gpu)(?P=a)' is not a regular expression: P"),
        (
            'runbooksUrl: "a b"',
            1,
            "runbooksUrl: 'a b' has a quote, a backslash, a brace or a space in it",
        ),
        ("prices: {NVIDIA H200: cheap}", 1, "NVIDIA H200: expected a number, 0 or more"),
        ("prices:\n  'a\"b': 1", 2, "prices: 'a\"b' is not the name of a model"),
        ("grace: 1h\ngrace: 2h", 2, "grace: given twice"),
        ("grace: [", 1, "not YAML"),
        ("just words", 1, "expected a mapping of keys to values, got 'just words'"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        read_settings(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: {problem}")
    assert "\n" not in message


@pytest.mark.parametrize("arguments", [["--settings", "bad.yaml"], ["--settings", "none.yaml"]])
def test_the_command_ends_with_2_and_a_line(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text("alerts:\n  GPULost: {for: now}\n")
    run = subprocess.run(
        [sys.executable, "-m", "rules", "--out", "out", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert run.stderr.startswith(arguments[1])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "file"), [("files", "underuse.yaml"), ("prometheusrule", "prometheusrule.yaml")]
)
def test_the_command_writes(tmp_path: Path, form: str, file: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "rules", "--out", "out", "--format", form],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
    )
    assert yaml.safe_load((tmp_path / "out" / file).read_text())


def test_the_table_keeps_its_own_rules(tmp_path: Path) -> None:
    """Every default, written to a file, is read as what it was."""
    tree: dict[str, Any] = {}
    for path, setting in table().items():
        *branches, leaf = path.split(".")
        at = tree
        for branch in branches:
            at = at.setdefault(branch, {})
        value = setting.default
        at[leaf] = list(value) if isinstance(value, tuple) else value
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(tree))
    assert read_settings(tmp_path / "settings.yaml") == defaults()
