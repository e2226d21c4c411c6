"""The simulated node's pods are told as kubelets tell them, and get the verdicts they should."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from exporter.app.simulated_node import SimulatedProcesses
from exporter.app.simulated_pods import by_pod, manifest
from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.kubernetes.pods import Patterns, parse_pod, parse_terminations
from exporter.model.claims import DraName, PodName
from exporter.model.ends import Cause
from exporter.model.oom import Confidence
from exporter.model.pods import DraDevice, Exemption, PodRecord, Termination
from exporter.model.snapshot import SourceHealth
from exporter.model.verdicts import EndVerdict
from tests.doubles.api_manifests import rfc3339
from tests.doubles.scripted import ManualClock, Rig
from tests.doubles.simulation import WALL, World, write
from tests.exporter.metrics.test_golden import NodeClaims

BORN = WALL + 5000
TWO_IN_ONE = """\
gpus: [{gpu: 0, sharing: time_sliced, replicas: 2}]
pods:
  - {pod: job, container: train, gpu: 0, workload: {kind: leak, period: 40s}}
  - {pod: job, container: load, gpu: 0, exempt: memory,
     workload: {kind: host_leak, period: 20s, backoff: 10s}}
"""


def told(world: World, seconds: float) -> dict[str, Any]:
    """Give the only pod at ``seconds``."""
    [states] = by_pod(world.at(seconds).backend.containers()).values()
    return manifest(states, "node-a", 0)


def statuses(pod: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {status["name"]: status for status in pod["status"]["containerStatuses"]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(write(tmp_path, TWO_IN_ONE))


def test_a_pod_of_two_containers_that_run(world: World) -> None:
    pod = told(world, 10)
    assert pod["status"]["phase"] == "Running"
    for status in statuses(pod).values():
        assert status["state"] == {"running": {"startedAt": rfc3339(BORN)}}
        assert (status["restartCount"], status["lastState"], status["ready"]) == (0, {}, True)
    record = parse_pod(pod, Patterns())
    assert (record.exempt, len(record.containers)) == (frozenset({Exemption.MEMORY}), 2)
    ids = {container.container_id for container in record.containers}
    assert {len(container_id or "") for container_id in ids} == {64}
    assert len(ids) == 2


def test_between_two_runs_it_waits_and_its_restart_is_not_counted_yet(world: World) -> None:
    status = statuses(told(world, 25))["load"]
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert (status["restartCount"], status["ready"]) == (0, False)
    last = status["lastState"]["terminated"]
    assert last == {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": rfc3339(BORN),
        "finishedAt": rfc3339(BORN + 20),
        "containerID": status["containerID"],
    }
    again = statuses(told(world, 35))["load"]
    assert again["state"] == {"running": {"startedAt": rfc3339(BORN + 30)}}
    assert (again["restartCount"], again["lastState"]["terminated"]) == (1, last)
    assert again["containerID"] != last["containerID"]


def test_what_is_not_restarted_ends_for_good(tmp_path: Path, world: World) -> None:
    pod = told(world, 45)
    ended = statuses(pod)["train"]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert "CUDA out of memory" in ended["message"]
    assert pod["status"]["phase"] == "Running"  # the other container goes on
    alone = write(tmp_path, "pods: [{pod: a, gpu: 0, workload: {kind: leak, period: 40s}}]")
    assert told(World(alone), 45)["status"]["phase"] == "Failed"
    well = write(tmp_path, "pods: [{pod: a, gpu: 0, end: 40s, workload: training}]")
    assert told(World(well), 45)["status"]["phase"] == "Succeeded"


def test_each_end_is_one_and_the_same_however_often_it_is_told(world: World) -> None:
    ends = {
        end.key: end.termination
        for seconds in range(1, 121)
        for end in parse_terminations(told(world, seconds))
    }
    found = sorted(
        (end.container.name, end.restart_count, end.finished_at - BORN, end.exit_code)
        for end in ends.values()
    )
    loads = [("load", run, 20.0 + 30 * run, 137) for run in range(4)]
    assert found == [*loads, ("train", 0, 40.0, 1)]
    assert {end.started_at for end in ends.values()} == {BORN + 30 * run for run in range(4)}
    blamed = {end.container.name: end.words.blames for end in ends.values()}
    assert blamed == {"load": None, "train": Cause.GPU_OOM}


class NodePods:
    """What the pod watch would make of the simulated node, without an API server between."""

    def __init__(self, backend: SimulatedBackend) -> None:
        self._backend = backend
        self._delivered: set[tuple[str, str]] = set()
        self._pods: dict[PodName, PodRecord] = {}
        self._ends: list[Termination] = []

    def pods(self) -> Mapping[PodName, PodRecord]:
        cycle, _ = self._backend.node.cycle(self._backend.scenario_seconds)
        for name, states in by_pod(self._backend.containers()).items():
            pod = manifest(states, "node-a", cycle)
            self._pods[name] = parse_pod(pod, Patterns())
            for end in parse_terminations(pod):
                if end.key not in self._delivered:
                    self._delivered.add(end.key)
                    self._ends.append(end.termination)
        return self._pods

    def dra_devices(self) -> Mapping[DraName, DraDevice]:
        return {}

    def take_terminations(self) -> Sequence[Termination]:
        self.pods()
        ends, self._ends = self._ends, []
        return ends

    def health(self) -> SourceHealth:
        return SourceHealth("kubernetes", up=True)


def story(
    folder: Path, speed: float, seconds: float, profile: str = "h200-mixed"
) -> tuple[Rig, Counter[Any]]:
    """Play the default scenario; count the verdicts by pod and confidence."""
    default = resources.files("exporter.gpus.simulated").joinpath("scenarios/default.yaml")
    lines = default.read_text().splitlines(keepends=True)
    # A GPU that hangs would hold up the only thread there is here.
    scenario = write(folder, "".join(line for line in lines if "gpu_hung" not in line))
    clock = ManualClock()
    backend = SimulatedBackend(
        profile=profile, scenario=scenario, speed=speed, clock=clock, wall=clock.wall
    )
    verdicts: Counter[Any] = Counter()

    def count(verdict: EndVerdict) -> None:
        if verdict.cause is Cause.GPU_OOM:
            verdicts[verdict.termination.container.pod, verdict.confidence] += 1

    rig = Rig(
        backend,
        clock,
        NodeClaims(backend),
        pods=NodePods(backend),
        processes=SimulatedProcesses(backend),
        on_end=count,
    )
    rig.run(seconds)
    return rig, verdicts


@pytest.mark.parametrize("profile", ["a100-mig", "h200-mixed"])
def test_the_default_scenario_has_a_verdict_of_each_kind(tmp_path: Path, profile: str) -> None:
    rig, verdicts = story(tmp_path, 1, 240, profile)
    assert set(verdicts) == {
        ("leaky-finetune", Confidence.CONFIRMED),
        ("sweep-0", Confidence.LIKELY),
    }
    kills = {container.pod: n for container, n in rig.sampler.snapshot.host_oom_kills.items() if n}
    assert kills.keys() == {"tokenize-0"}


@pytest.mark.parametrize("speed", [10, 60])
def test_a_fast_story_has_the_same_confirmed_ends(tmp_path: Path, speed: float) -> None:
    _, verdicts = story(tmp_path, speed, 1260 / speed)
    # The sixth of each time round may come and go between two looks.
    assert 10 <= verdicts["leaky-finetune", Confidence.CONFIRMED] <= 12
    assert ("leaky-finetune", Confidence.POSSIBLE) not in verdicts
