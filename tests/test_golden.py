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
from tests.scripted import ManualClock, Rig, ScriptedClaims

GOLDEN = Path(__file__).parent / "golden"


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
) -> Rig:
    clock = ManualClock()
    backend = SimulatedBackend(
        profile=profile,
        scenario=GOLDEN / f"{scenario}.yaml",
        clock=clock,
        wall=clock.wall,
    )
    return Rig(backend, clock, claims(backend))


def whole_gpus() -> Rig:
    rig = node("exclusive", profile="h100")
    rig.run(65)
    return rig


def mig_with_activity() -> Rig:
    rig = node("mig", profile="h200-mixed")
    rig.run(65)
    return rig


def mig_without_activity() -> Rig:
    rig = node("mig", profile="a100-mig")
    rig.run(65)
    return rig


def time_sliced() -> Rig:
    rig = node("time-sliced")
    rig.run(65)
    return rig


def one_lost() -> Rig:
    rig = node("lost")
    rig.run(65)
    return rig


def one_hung() -> Rig:
    rig = node("exclusive")
    rig.run(30)
    rig.workers["gpu-3"].hold = True
    rig.run(35)
    return rig


def no_driver() -> Rig:
    rig = node("no-driver")
    rig.run(65)
    return rig


def no_kubelet() -> Rig:
    rig = node("exclusive", claims=lambda _: ScriptedClaims(None))
    rig.run(65)
    return rig


def stale_claims() -> Rig:
    rig = node("exclusive", claims=SilentClaims)
    rig.run(65)
    return rig


def expose(rig: Rig) -> str:
    rendered = Exposition(lambda: rig.sampler.snapshot, node="node-1", beside=CollectorRegistry())
    text = rendered.render()[0].decode()
    text = re.sub(
        r"^(gpu_exporter_source_duration_seconds{.*}) .*$", r"\1 0.01", text, flags=re.MULTILINE
    )
    # What depends on the machine and the release, and not on the node.
    build = r'python_version="[^"]*",version="[^"]*"'
    return re.sub(build, 'python_version="3",version="0"', text)


@pytest.mark.parametrize(
    "make",
    [
        whole_gpus,
        mig_with_activity,
        mig_without_activity,
        time_sliced,
        one_lost,
        one_hung,
        no_driver,
        no_kubelet,
        stale_claims,
    ],
    ids=lambda make: make.__name__,
)
def test_exposition(make: Callable[[], Rig], pytestconfig: pytest.Config) -> None:
    text = expose(make())
    path = GOLDEN / f"{make.__name__.replace('_', '-')}.prom"
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
