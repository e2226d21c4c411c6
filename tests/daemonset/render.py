"""What the real ``helm`` and ``kubectl`` make of ``daemonset/``."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "daemonset" / "chart"
EXAMPLES = CHART / "examples"
KUSTOMIZE = ROOT / "daemonset" / "kustomize"

Object = dict[str, Any]


def program(name: str) -> Path:
    """Return where a program is: beside this Python, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.exists() else shutil.which(name)
    assert found, f"no {name} here: python -m setup.cluster_tools installs it"
    return Path(found)


def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of the caller's own settings."""
    return subprocess.run(
        [program(name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )


@cache
def kustomize(folder: Path) -> tuple[Object, ...]:
    """Return the objects that ``kubectl apply -k`` would send."""
    return _objects(run("kubectl", "kustomize", folder))


@cache
def helm_template(*arguments: str | Path) -> tuple[Object, ...]:
    """Return the objects that ``helm install`` would send, its test among them."""
    return _objects(helm("template", *arguments))


def helm(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of Helm's commands that take a release's name, a chart and values."""
    release = ("kube-gpu-exporter", CHART, "--namespace", "gpu-monitoring")
    return run("helm", command, *release, *arguments)


def example(name: str) -> tuple[Object, ...]:
    """Return the objects of one of the chart's example values files."""
    return helm_template("--values", EXAMPLES / f"{name}.yaml")


def _objects(done: subprocess.CompletedProcess[str]) -> tuple[Object, ...]:
    assert done.returncode == 0, done.stderr
    return tuple(made for made in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if made)


def find(objects: Sequence[Object], kind: str) -> Object:
    """Return the only object of a kind."""
    (found,) = (made for made in objects if made["kind"] == kind)
    return found
