"""Ends of containers that requested a GPU, and that the kubelet never listed with one."""

from dataclasses import replace

import pytest

from exporter.model.claims import Claim, Claims, Container
from exporter.model.ends import Cause
from exporter.model.oom import Confidence
from exporter.model.pods import PodRecord, Termination
from exporter.model.snapshot import ContainerSample
from exporter.model.verdicts import EndVerdict
from tests.doubles.scripted import Harness, gpu
from tests.doubles.terminations import NOTHING, TOO_MUCH
from tests.exporter.sampling.test_containers import EXCLUSIVE, TRAIN, ScriptedPods, ended

RECORD = PodRecord("uid", "ml", "train-0", "Job", "train")
WARM_UP = replace(TRAIN, name="warm-up")
SHORT = Container("ml", "short", "main")
NOBODY = Claims(allocatable={"nvidia.com/gpu": (gpu(0).uuid,)})


def end(harness: Harness, container: Container, **fields: object) -> Termination:
    found = replace(
        ended(harness, TOO_MUCH), container=container, pod_uid="uid", wants_devices=True
    )
    return replace(found, **fields)  # type: ignore[arg-type]


def sample(harness: Harness, container: Container) -> ContainerSample | None:
    samples = harness.sampler.snapshot.containers
    return next((s for s in samples if s.allocation.container == container), None)


def test_an_init_container_that_ran_once_had_the_devices_of_its_pod() -> None:
    pods = ScriptedPods({TRAIN.pod_name: RECORD})
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    pods.ends = [end(harness, WARM_UP, init=True)]
    harness.run(5)
    snapshot = harness.sampler.snapshot
    assert snapshot.container_ends[WARM_UP] == {(Cause.GPU_OOM, Confidence.CONFIRMED): 1}
    found = sample(harness, WARM_UP)
    assert found is not None
    assert found.oom is not None
    assert found.oom.events[Confidence.CONFIRMED] == 1
    assert found.oom.last is not None
    assert found.oom.last.device_uuid == gpu(0).uuid
    assert (found.pod, found.ended, found.allocated_seconds) == (RECORD, True, 0)
    main = sample(harness, TRAIN)
    assert main is not None
    assert main.oom is not None
    assert sum(main.oom.events.values()) == 0


def test_a_pod_that_no_answer_listed_is_judged_by_its_words_once_the_kubelet_was_asked_again() -> (
    None
):
    verdicts = list[EndVerdict]()
    pods = ScriptedPods({SHORT.pod_name: replace(RECORD, name="short")})
    harness = Harness(claims=NOBODY, pods=pods, on_end=verdicts.append)
    harness.run(10)
    pods.ends = [end(harness, SHORT)]
    harness.run(50)
    assert verdicts == []
    harness.run(15)
    [verdict] = verdicts
    assert (verdict.cause, verdict.confidence) == (Cause.GPU_OOM, Confidence.CONFIRMED)
    assert verdict.oom is not None
    assert verdict.oom.device_uuid == ""
    ends = harness.sampler.snapshot.container_ends
    assert ends[SHORT] == {(Cause.GPU_OOM, Confidence.CONFIRMED): 1}
    assert sample(harness, SHORT) is None


def test_what_was_judged_is_served_for_minutes_and_then_forgotten() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=NOBODY, pods=pods)
    harness.run(10)
    pods.ends = [end(harness, SHORT)]
    harness.run(65)
    assert SHORT in harness.sampler.snapshot.container_ends
    harness.run(200)
    assert SHORT in harness.sampler.snapshot.container_ends
    harness.run(60)
    assert harness.sampler.snapshot.container_ends == {}


def test_a_claim_that_comes_late_is_waited_for() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=NOBODY, pods=pods)
    harness.run(10)
    pods.ends = [end(harness, SHORT)]
    harness.run(20)
    harness.claims.current = Claims(held=(Claim(SHORT, "nvidia.com/gpu", gpu(0).uuid),))
    harness.run(5)
    found = sample(harness, SHORT)
    assert found is not None
    assert found.oom is not None
    assert found.oom.events[Confidence.CONFIRMED] == 1
    harness.run(100)
    assert sum(harness.sampler.snapshot.container_ends[SHORT].values()) == 1


@pytest.mark.parametrize("init", [True, False])
def test_a_container_that_requested_no_gpu_is_not_judged(init: bool) -> None:  # noqa: FBT001
    pods = ScriptedPods({TRAIN.pod_name: RECORD})
    harness = Harness(claims=EXCLUSIVE, pods=pods)
    harness.run(10)
    pods.ends = [end(harness, WARM_UP, init=init, wants_devices=False)]
    harness.run(200)
    assert WARM_UP not in harness.sampler.snapshot.container_ends


def test_a_host_oom_of_an_unlisted_container_counts() -> None:
    pods = ScriptedPods()
    harness = Harness(claims=NOBODY, pods=pods)
    harness.run(10)
    killed = end(harness, SHORT, words=NOTHING, exit_code=137, reason="OOMKilled")
    pods.ends = [killed]
    harness.run(65)
    assert harness.sampler.snapshot.host_oom_kills == {SHORT: 1}
    ends = harness.sampler.snapshot.container_ends
    assert ends[SHORT] == {(Cause.HOST_OOM, Confidence.CONFIRMED): 1}
