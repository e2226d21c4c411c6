"""One set of definitions, several forms: rule files, a PrometheusRule, the generated files."""

from pathlib import Path

import yaml

from rules import generate, render
from rules.settings import defaults


def test_the_object_holds_the_files_groups() -> None:
    files = render.rule_files(defaults()).values()
    groups = [group for file in files for group in yaml.safe_load(file)["groups"]]
    resource = yaml.safe_load(render.prometheus_rule(defaults()))
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"]["groups"] == groups


def test_generated_files() -> None:
    files = generate.generated()
    plain = [path for path in files if path.startswith("rules/generated/prometheus/")]
    assert {Path(path).stem for path in plain} == {
        "recording",
        "underuse",
        "memory",
        "hardware",
        "exporter",
    }
    assert b"DCGM" not in b"".join(files[path] for path in plain)
    assert b"DCGM" in files["rules/generated/extra/dcgm.yaml"]
    assert b"DCGM" not in files["rules/generated/prometheusrule.yaml"]
