"""Who ended a container, by the pod's status, with texts as the kubelet and controllers write."""

from typing import Any

import pytest

from exporter.kubernetes.pods import parse_terminations
from exporter.model.ends import Cause
from exporter.model.pods import Termination
from tests.doubles.api_manifests import ended, manifest, rfc3339, running, terminated

END = 10_000
SHM = "/dev/shm"  # noqa: S108


def disruption(reason: str, since: float, kind: str = "DisruptionTarget") -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "lastTransitionTime": rfc3339(since),
        "message": "…: preempting to accommodate a higher priority pod",
    }


def end_of(pod: dict[str, Any]) -> Termination:
    [end] = parse_terminations(pod)
    return end.termination


def failed(reason: str | None = None, *conditions: dict[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = {"phase": "Failed", "conditions": list(conditions)}
    if reason:
        status["reason"] = reason
    return manifest(statuses=[ended(finished=END, exit_code=137)], **status)


@pytest.mark.parametrize(
    ("pod", "actor"),
    [
        # pkg/kubelet/eviction/helpers.go; the kubelet sets its condition after the end.
        (failed("Evicted", disruption("TerminationByKubelet", END + 2)), Cause.EVICTED),
        (failed("Evicted"), Cause.EVICTED),
        # pkg/kubelet/nodeshutdown: "… in response to imminent node shutdown."
        (failed("Terminated", disruption("TerminationByKubelet", END + 1)), Cause.PREEMPTED),
        # pkg/kubelet/preemption, and the scheduler's.
        (failed("Preempting"), Cause.PREEMPTED),
        (failed(None, disruption("PreemptionByScheduler", END - 20)), Cause.PREEMPTED),
        # A drain, and a taint.
        (failed(None, disruption("EvictionByEvictionAPI", END - 20)), Cause.PREEMPTED),
        (failed(None, disruption("DeletionByTaintManager", END - 20)), Cause.PREEMPTED),
        # Kueue's plain pods: pkg/controller/jobs/pod.
        (
            failed(None, disruption("StoppedByKueue", END - 5, "TerminationTarget")),
            Cause.PREEMPTED,
        ),
        (failed("DeadlineExceeded"), Cause.DEADLINE),
        (failed(), None),
        (failed("UnexpectedAdmissionError"), None),
        (failed(None, disruption("SomethingNew", END - 5)), None),
    ],
)
def test_the_pods_status_says_who_ended_it(pod: dict[str, Any], actor: Cause | None) -> None:
    assert end_of(pod).actor is actor


def test_a_container_that_ended_long_before_its_pod_was_evicted_keeps_its_own_cause() -> None:
    assert end_of(failed("Evicted", disruption("TerminationByKubelet", END + 600))).actor is None


def test_a_run_before_the_present_one_was_not_evicted() -> None:
    status = running(restarts=1, last=terminated(END, exit_code=1))
    pod = manifest(statuses=[status], phase="Failed", reason="Evicted")
    assert end_of(pod).actor is None


@pytest.mark.parametrize(
    ("deleted", "grace", "actor"),
    [
        (END + 30, 30, Cause.STOPPED),  # asked at END, with 30 s to stop
        (END + 25, 30, Cause.STOPPED),
        (END + 90, 30, None),  # asked a minute after the end
        (END, 0, Cause.STOPPED),  # kubectl delete --force
    ],
)
def test_a_pod_that_was_deleted_before_the_end_was_stopped(
    deleted: float, grace: int, actor: Cause | None
) -> None:
    pod = failed()
    pod["metadata"] |= {
        "deletionTimestamp": rfc3339(deleted),
        "deletionGracePeriodSeconds": grace,
    }
    assert end_of(pod).actor is actor


@pytest.mark.parametrize("time", [None, 5, "yesterday", "", []])
def test_a_time_that_is_none_says_nothing(time: object) -> None:
    pod = failed(None, disruption("PreemptionByScheduler", END) | {"lastTransitionTime": time})
    assert end_of(pod).actor is None


@pytest.mark.parametrize(
    ("spec", "mounts", "expected"),
    [
        ({}, [], False),
        ({"hostIPC": True}, [], True),
        ({}, [{"name": "dshm", "mountPath": SHM}], True),
        ({}, [{"name": "dshm", "mountPath": f"{SHM}/"}], True),
        ({}, [{"name": "data", "mountPath": "/data"}], False),
    ],
)
def test_whether_shared_memory_has_the_runtimes_size(
    spec: dict[str, Any], mounts: list[dict[str, str]], *, expected: bool
) -> None:
    pod = failed()
    pod["spec"] |= {**spec, "containers": [{"name": "main", "volumeMounts": mounts}]}
    assert end_of(pod).has_shm is expected
