"""The chart's rules and dashboards are the generated ones, with values in their places."""

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import generate as dashboards
from rules import render
from rules.setting import Kind, Setting
from rules.settings import Settings, defaults, table
from tests.daemonset.render import Object, example, find, helm, helm_template

ON = ("--set", "prometheusRule.enabled=true")

OTHER: Mapping[Kind, Any] = {
    Kind.SECONDS: 4321.0,
    Kind.RATIO: 0.123,
    Kind.NUMBER: 17.0,
    Kind.BYTES: 2147483648.0,
    Kind.CELSIUS: 7.5,
    Kind.URL: "https://runbooks.example/gpu/",
    Kind.PATTERN: "gpu|node.+",
    Kind.NAMES: ("build", "kube-system"),
    Kind.DURATION: "7m",
    Kind.WAIT: "3m",
}
"""A value that is nobody's default."""


def changed(setting: Setting) -> Any:
    match setting.kind:
        case Kind.SWITCH:
            return True
        case Kind.SEVERITY:
            return "info" if setting.default == "critical" else "critical"
        case kind:
            return OTHER[kind]


def spec(objects: tuple[Object, ...]) -> Any:
    return find(objects, "PrometheusRule")["spec"]


def filled(settings: Settings) -> Any:
    """Return what the rules' own renderer makes of settings."""
    return yaml.safe_load(render.prometheus_rule(settings))["spec"]


def nested(settings: Settings) -> dict[str, Any]:
    """Return settings as a user writes them into the chart's values."""
    values: dict[str, Any] = {"enabled": True, "prices": dict(settings.prices)}
    for path, value in settings.values.items():
        *parents, key = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = list(value) if isinstance(value, tuple) else value
    return {"prometheusRule": values}


def rendered(settings: Settings, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    path = folder / "values.yaml"
    path.write_text(json.dumps(nested(settings)))
    return spec(helm_template("--values", path))


def rules(made: Any) -> Iterator[dict[str, Any]]:
    for group in made["groups"]:
        yield from group["rules"]


def test_with_default_values_they_are_the_generated_ones() -> None:
    assert spec(example("prometheus-operator")) == filled(defaults())


def test_every_setting_is_a_value(tmp_path: Path) -> None:
    values = {path: changed(setting) for path, setting in table().items()}
    prices = {"NVIDIA H100 80GB HBM3": 2.5, "Tesla T4": 1000000.0}
    settings = Settings(values, prices)
    made = rendered(settings, tmp_path)
    assert made == filled(settings)
    assert made != filled(defaults())


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("kube-gpu-exporter", ".*gpu-exporter.*"),
        ("team-a-gpu-exporter", ".*gpu-exporter.*"),
        ("nvidia-metrics", ".*nvidia-metrics.*"),
    ],
)
def test_rules_look_at_the_jobs_of_this_release(name: str, job: str) -> None:
    given = f"fullnameOverride={name},podMonitor.enabled=true"
    objects = helm_template(*ON, "--set", given)
    (down,) = (r for r in rules(spec(objects)) if r.get("alert") == "GPUExporterDown")
    assert f'up{{job=~"{job}"}}' in down["expr"]
    # As the Prometheus operator names the targets of a PodMonitor.
    monitor = find(objects, "PodMonitor")["metadata"]
    assert re.fullmatch(job, f"{monitor['namespace']}/{monitor['name']}")


def test_every_alert_and_group_can_be_switched_off(tmp_path: Path) -> None:
    switches = {path for path, setting in table().items() if setting.kind is Kind.SWITCH}
    for off in ("groups.", "alerts."):
        values = {
            path: not path.startswith(off) if path in switches else setting.default
            for path, setting in table().items()
        }
        made = rendered(Settings(values, {}), tmp_path / off)
        assert made == filled(Settings(values, {}))
        assert not [rule["alert"] for rule in rules(made) if "alert" in rule]
        assert [rule["record"] for rule in rules(made) if "record" in rule]


def test_a_threshold_changes_its_own_expression_and_no_other() -> None:
    path = "prometheusRule.alerts.GPUContainerUnderutilized.busy"
    made = spec(helm_template(*ON, "--set-json", f"{path}=0.31"))
    before = {json.dumps(rule, sort_keys=True) for rule in rules(filled(defaults()))}
    (different,) = (r for r in rules(made) if json.dumps(r, sort_keys=True) not in before)
    assert different["alert"] == "GPUContainerUnderutilized"
    assert "0.31" in different["expr"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ('prometheusRule.prices={"a\\"b": 1}', "/prometheusRule/prices': additional"),
        ('prometheusRule.runbooksUrl="https://x/\\" y"', "/prometheusRule/runbooksUrl"),
        ('prometheusRule.job="a{b}"', "/prometheusRule/job"),
        ('prometheusRule.exemptNamespaces=["a|b"]', "/prometheusRule/exemptNamespaces/0"),
    ],
)
def test_text_that_would_break_an_expression_is_refused(given: str, problem: str) -> None:
    done = helm("template", *ON, "--set-json", given)
    assert done.returncode != 0
    assert f"at '{problem}" in done.stderr


def test_prometheus_takes_them(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "no promtool here: setup/system-packages promtool:prometheus"
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps(spec(example("prometheus-operator"))))
    subprocess.run([promtool, "check", "rules", path], check=True, capture_output=True)
    broken = copy.deepcopy(spec(example("prometheus-operator")))
    broken["groups"][0]["rules"][0]["expr"] += " ${oops}"
    path.write_text(json.dumps(broken))
    assert subprocess.run(
        [promtool, "check", "rules", path], check=False, capture_output=True
    ).returncode


def test_dashboards_are_the_generated_ones() -> None:
    maps = [made for made in example("prometheus-operator") if made["kind"] == "ConfigMap"]
    content = {name: text for made in maps for name, text in made["data"].items()}
    expected = {
        Path(path).name: file
        for path, file in dashboards.generated().items()
        if path.endswith("json")
    }
    assert {name: text.encode() for name, text in content.items()} == expected
    assert all(made["metadata"]["labels"]["grafana_dashboard"] == "1" for made in maps)
    assert all(len(json.dumps(made)) < 1_000_000 for made in maps), "over what etcd takes"


def test_one_value_leads_rules_and_dashboards_to_the_runbooks() -> None:
    where = "https://runbooks.example.org/gpu/"
    both = f"dashboards.enabled=true,prometheusRule.runbooksUrl={where}"
    text = json.dumps(helm_template(*ON, "--set", both))
    assert text.count(f"{where}GPULost.md") > 2
    assert f"{where}${{__value.raw}}.md" in text
    assert str(table()["runbooksUrl"].default) not in text


def test_dashboards_go_into_a_folder_of_grafana() -> None:
    given = "dashboards.enabled=true,dashboards.folder=GPUs,dashboards.annotations.a=b"
    maps = [made for made in helm_template("--set", given) if made["kind"] == "ConfigMap"]
    assert len(maps) > 1
    for made in maps:
        assert made["metadata"]["annotations"] == {"a": "b", "grafana_folder": "GPUs"}
