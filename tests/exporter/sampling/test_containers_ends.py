"""Ends of containers over a whole sampler: told late, of a namesake, seen by the driver alone."""

from dataclasses import replace

import pytest

from exporter.model.claims import Claim, Claims, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import NO_WORDS
from exporter.model.oom import Confidence
from exporter.model.pods import PodRecord
from exporter.model.readings import EndedProcess, Memory
from exporter.model.snapshot import ContainerSample
from tests.doubles.scripted import GIB, Harness, gpu
from tests.doubles.terminations import TOO_MUCH
from tests.exporter.sampling.test_containers import (
    EXCLUSIVE,
    OTHER,
    SHARED,
    TRAIN,
    ScriptedPods,
    ScriptedProcesses,
    ended,
)

MOVED = Claims(held=(Claim(TRAIN, "nvidia.com/gpu", gpu(1).uuid),))


def told_of(harness: Harness, container: Container, index: int = 0) -> ContainerSample | None:
    samples = harness.sampler.snapshot.containers
    key = container, gpu(index).uuid
    return next(
        (s for s in samples if (s.allocation.container, s.allocation.device_uuid) == key), None
    )


def events(harness: Harness, index: int = 0) -> dict[Confidence, int]:
    sample = told_of(harness, TRAIN, index)
    assert sample is not None
    assert sample.oom is not None
    return {confidence: count for confidence, count in sample.oom.events.items() if count}


def test_a_pod_that_was_created_again_is_known_though_its_claims_are_the_same() -> None:
    first = PodRecord("first", "ml", "train-0", "Job", "train")
    pods = ScriptedPods({TRAIN.pod_name: first})
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(200)
    pods.found = {TRAIN.pod_name: replace(first, uid="second")}
    harness.run(200)
    pods.ends = [ended(harness, TOO_MUCH, pod_uid="second")]
    harness.run(5)
    assert events(harness) == {Confidence.CONFIRMED: 1}


def test_an_end_that_is_told_after_the_series_went_brings_them_back_for_a_grace() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    end = ended(harness, TOO_MUCH)
    harness.claims.current = Claims()
    harness.run(100)
    assert told_of(harness, TRAIN) is None
    assert harness.sampler.snapshot.host_oom_kills == {}
    pods.ends = [end]
    harness.run(5)
    assert events(harness) == {Confidence.CONFIRMED: 1}
    sample = told_of(harness, TRAIN)
    assert sample is not None
    assert sample.ended
    assert sample.allocated_seconds == pytest.approx(10, abs=1)
    assert harness.sampler.snapshot.host_oom_kills == {TRAIN: 0}
    harness.run(50)
    assert events(harness) == {Confidence.CONFIRMED: 1}
    harness.run(15)
    assert told_of(harness, TRAIN) is None


def test_a_host_kill_that_is_told_late_is_served_as_well() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    end = ended(harness, NO_WORDS, exit_code=137, reason="OOMKilled")
    harness.claims.current = Claims()
    harness.run(100)
    pods.ends = [end]
    harness.run(5)
    assert harness.sampler.snapshot.host_oom_kills == {TRAIN: 1}
    assert events(harness) == {}


def test_a_namesake_on_another_gpu_is_not_blamed() -> None:
    pods = ScriptedPods({TRAIN.pod_name: PodRecord("first", "ml", "train-0", "Job", "train")})
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    end = ended(harness, TOO_MUCH, pod_uid="first")
    pods.found = {TRAIN.pod_name: replace(pods.found[TRAIN.pod_name], uid="second")}
    harness.claims.current = MOVED
    harness.run(10)
    pods.ends = [end]
    harness.run(5)
    assert (events(harness, 0), events(harness, 1)) == ({Confidence.CONFIRMED: 1}, {})
    pods.ends = [ended(harness, TOO_MUCH, pod_uid="second")]
    harness.run(5)
    assert events(harness, 0) == events(harness, 1) == {Confidence.CONFIRMED: 1}


@pytest.mark.parametrize(
    ("claims", "pid", "verdict"),
    [
        (EXCLUSIVE, 99, {Confidence.LIKELY: 1}),
        (SHARED, 11, {Confidence.LIKELY: 1}),
        (SHARED, 12, {}),
        (SHARED, 99, {}),
    ],
    ids=["the only holder's", "one of several's", "the neighbour's", "of no pod"],
)
def test_a_peak_that_only_the_drivers_accounting_saw(
    claims: Claims, pid: int, verdict: dict[Confidence, int]
) -> None:
    pods = ScriptedPods()
    processes = ScriptedProcesses({11: TRAIN, 12: OTHER})
    harness = Harness(claims=claims, pods=pods, processes=processes)
    reader = harness.backend.gpus[0]
    reader.memory = Memory(80 * GIB, GIB, 79 * GIB)
    harness.run(30)
    kept = EndedProcess(pid, UnixSeconds(harness.clock.wall() - 3), 79 * GIB)
    reader.fast_extra = {"ended": (kept,)}
    harness.run(1)
    reader.fast_extra = {}
    pods.ends = [ended(harness, NO_WORDS)]
    harness.run(5)
    assert events(harness) == verdict
