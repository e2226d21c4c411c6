"""Whole expositions of whole nodes, kept in tests/golden/ and linted by promtool.

``make update`` writes them anew; a change in them is a change that users see.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.metrics.exposition import Exposition
from exporter.model.claims import Claims
from exporter.model.snapshot import SourceHealth
from tests.doubles.scripted import ManualClock, Rig, ScriptedClaims

GOLDEN = Path(__file__).parents[2] / "golden"


class NodeClaims:
    """The simulated node's claims, without a kubelet between."""

    def __init__(self, backend: SimulatedBackend) -> None:
        self._backend = backend

    def claims(self, now: float) -> Claims | None:
        del now
        return self._backend.claims()

    def health(self) -> SourceHealth:
        return SourceHealth("kubelet", up=True, duration_seconds=0.002)


class SilentClaims(NodeClaims):
    """Claims of a kubelet that no longer answers, within their grace."""

    def health(self) -> SourceHealth:
        return SourceHealth("kubelet", up=False, failures={"timeout": 2})


def node(
    scenario: str,
    profile: str = "t4",
    claims: Callable[[SimulatedBackend], NodeClaims | ScriptedClaims] = NodeClaims,
    seconds: float = 65,
) -> Rig:
    clock = ManualClock()
    backend = SimulatedBackend(
        profile=profile,
        scenario=GOLDEN / f"{scenario}.yaml",
        clock=clock,
        wall=clock.wall,
    )
    rig = Rig(backend, clock, claims(backend))
    rig.run(seconds)
    return rig


def one_hung() -> Rig:
    rig = node("exclusive", seconds=30)
    rig.workers["gpu-3"].hold = True
    rig.run(35)
    return rig


NODES: dict[str, Callable[[], Rig]] = {
    "whole-gpus": lambda: node("exclusive", profile="h100"),
    "mig-with-activity": lambda: node("mig", profile="h200-mixed"),
    "mig-without-activity": lambda: node("mig", profile="a100-mig"),
    "time-sliced": lambda: node("time-sliced"),
    "one-lost": lambda: node("lost"),
    "one-hung": one_hung,
    "no-driver": lambda: node("no-driver"),
    "no-kubelet": lambda: node("exclusive", claims=lambda _: ScriptedClaims(None)),
    "stale-claims": lambda: node("exclusive", claims=SilentClaims),
}


def expose(rig: Rig) -> str:
    rendered = Exposition(lambda: rig.sampler.snapshot, node="node-1", beside=CollectorRegistry())
    text = rendered.render().decode()
    text = re.sub(
        r"^(gpu_exporter_source_duration_seconds{.*}) .*$", r"\1 0.01", text, flags=re.MULTILINE
    )
    # What depends on the machine and the release, and not on the node.
    build = r'python_version="[^"]*",version="[^"]*"'
    return re.sub(build, 'python_version="3",version="0"', text)


@pytest.mark.parametrize("name", NODES)
def test_exposition(name: str, pytestconfig: pytest.Config) -> None:
    text = expose(NODES[name]())
    path = GOLDEN / f"{name}.prom"
    if pytestconfig.getoption("--update-golden"):
        path.write_text(text)
    assert text == path.read_text()
    lint = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")
