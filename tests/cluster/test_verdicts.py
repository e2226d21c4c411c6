"""Containers that end on a real kubelet are judged, each once."""

import time
from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import Any

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import stays, until
from tests.cluster.pods import CUDA_WORDS, FOREVER, GPU, container, pod, pod_spec, words_and_exit
from tests.cluster.report import report
from tests.cluster.scrapes import Exporter

pytestmark = pytest.mark.cluster

OOM = "gpu_container_oom_events_total"
HOST_OOM = "gpu_container_host_oom_kills_total"
SETTLED_SECONDS = 8.0
"""After which nothing is counted any more that has not been."""
FULL = "memory=100%"
MEMORY_HOG = "sleep 3; exec tail /dev/zero"
"""Takes memory until the kernel kills it: ``tail`` looks for the end of a line."""


def verdicts(exporter: Exporter, name: str, metric: str = OOM) -> dict[str, float]:
    """Return a pod's counts that are not 0, by confidence or by nothing."""
    found: dict[str, float] = {}
    for sample in exporter.samples(metric, pod=name):
        if sample.value:
            key = sample.labels.get("confidence", "")
            found[key] = found.get(key, 0) + sample.value
    return found


def ended(cluster: Cluster, name: str) -> Mapping[str, Any] | None:
    """Return how a pod's first container ended, once it has."""
    found = cluster.find("pod", name) or {}
    (status, *_) = found.get("status", {}).get("containerStatuses") or [{}]
    state: Mapping[str, Any] | None = status.get("state", {}).get("terminated")
    return state


def test_ends_are_judged_by_their_words_and_causes(cluster: Cluster, exporter: Exporter) -> None:
    share = {f"{GPU}.shared": 1}
    cuts = {"nvidia.com/mig-1g.18gb": 1}
    full = words_and_exit(CUDA_WORDS, 1, after="10")
    cluster.apply(
        # Words, and a device that was full; and words alone, of a device that had room.
        pod("words-1", container(full), simulate=FULL),
        pod("room", container(words_and_exit(CUDA_WORDS, 1), resources=share)),
        pod("words-0", container(words_and_exit(CUDA_WORDS, 0), resources=share)),
        pod("plain-error", container(words_and_exit("KeyError: 'x'", 1), resources=share)),
        pod("good", container(words_and_exit("done", 0), resources=share)),
        pod("host-oom", container(MEMORY_HOG, resources=cuts | {"memory": "32Mi"})),
        pod("two-gpus", container(full, resources={GPU: 2}), simulate=FULL),
        pod("on-a-slice", container(full, resources=cuts), simulate=FULL),
    )
    exporter.until(lambda: verdicts(exporter, "words-1") == {"confirmed": 1}, "words-1 is judged")
    exporter.until(lambda: verdicts(exporter, "on-a-slice") == {"confirmed": 1}, "the slice's is")
    exporter.until(lambda: verdicts(exporter, "host-oom", HOST_OOM) == {"": 1}, "the kill is told")
    exporter.until(lambda: verdicts(exporter, "two-gpus"), "two-gpus is judged")
    exporter.until(lambda: verdicts(exporter, "room") == {"likely": 1}, "room is judged")
    assert (ended(cluster, "host-oom") or {})["reason"] == "OOMKilled"
    until_ended(cluster, "words-0", "plain-error", "good")

    def settled() -> bool:
        return (
            verdicts(exporter, "words-1") == {"confirmed": 1}
            and not verdicts(exporter, "plain-error")
            and not verdicts(exporter, "good")
            and not verdicts(exporter, "host-oom")
            and verdicts(exporter, "host-oom", HOST_OOM) == {"": 1}
            and verdicts(exporter, "two-gpus") == {"confirmed": 1}
        )

    stays(settled, "each end is counted once", seconds=SETTLED_SECONDS)
    # Words, and a good end: somebody caught it.
    assert verdicts(exporter, "words-0") in ({}, {"possible": 1})


def until_ended(cluster: Cluster, *names: str) -> None:
    for name in names:
        until(partial(ended, cluster, name), f"{name} has ended")


def test_the_end_is_judged_soon(cluster: Cluster, exporter: Exporter) -> None:
    seconds = []
    for number in range(5):
        name = f"soon-{number}"
        cluster.apply(pod(name, container(words_and_exit(CUDA_WORDS, 1, after="2"))))
        until(partial(ended, cluster, name), f"{name} has ended", poll=0.02)
        began = time.monotonic()
        exporter.until(partial(verdicts, exporter, name), f"{name} is judged")
        seconds.append(time.monotonic() - began)
    report("end of a container to verdict", median=median(seconds), most=max(seconds))
    assert max(seconds) < 10


def test_a_crash_loop_counts_each_end_once(cluster: Cluster, exporter: Exporter) -> None:
    script = words_and_exit(CUDA_WORDS, 1, after="2")
    cluster.apply(pod("loop", container(script), restart="Always"))

    def ends() -> int:
        found = (cluster.find("pod", "loop") or {})["status"]
        (status, *_) = found.get("containerStatuses") or [{}]
        down = "running" not in status.get("state", {"running": {}})
        return int(status.get("restartCount", 0)) + down

    until(lambda: ends() >= 3, "it has ended three times")
    exporter.until(
        lambda: sum(verdicts(exporter, "loop").values()) == ends(), "each end is counted"
    )
    stays(
        lambda: sum(verdicts(exporter, "loop").values()) <= ends(),
        "none is counted twice",
        seconds=SETTLED_SECONDS,
    )


def test_a_sidecar_is_judged_like_another_container(cluster: Cluster, exporter: Exporter) -> None:
    sidecar = container(
        words_and_exit(CUDA_WORDS, 1, after="3"), name="sidecar", restartPolicy="Always"
    )
    cluster.apply(pod("beside", container(FOREVER, resources={}), initContainers=[sidecar]))
    exporter.until(lambda: verdicts(exporter, "beside"), "the sidecar is judged")
    samples = [s for s in exporter.samples(OOM, pod="beside") if s.value]
    assert {sample.labels["container"] for sample in samples} == {"sidecar"}


def test_an_init_container_with_a_gpu_is_judged(cluster: Cluster, exporter: Exporter) -> None:
    first = container(words_and_exit(CUDA_WORDS, 1), name="first")
    cluster.apply(pod("begins", container(FOREVER, resources={}), initContainers=[first]))
    exporter.until(lambda: verdicts(exporter, "begins"), "the init container is judged", seconds=40)


def test_evicted_and_deleted_pods_ran_out_of_nothing(cluster: Cluster, exporter: Exporter) -> None:
    limits: dict[str, int | str] = {GPU: 1, "ephemeral-storage": "1Mi"}
    cluster.apply(
        pod("evicted", container("dd if=/dev/zero of=/big bs=1M count=9; " + FOREVER,
                                 resources=limits)),
        pod("deleted", container(FOREVER)),
    )  # fmt: skip
    exporter.until_mapped("deleted")
    exporter.until_mapped("evicted")
    cluster.delete("pod", "deleted")
    until(
        lambda: (cluster.find("pod", "evicted") or {})["status"].get("reason") == "Evicted",
        "the kubelet evicts the pod that writes too much",
    )
    stays(
        lambda: not verdicts(exporter, "evicted") and not verdicts(exporter, "deleted"),
        "neither is judged out of memory",
        seconds=SETTLED_SECONDS,
    )


def test_each_pod_of_a_large_job_is_judged(cluster: Cluster, exporter: Exporter) -> None:
    """Fifty pods, nine at a time; every other one runs out of memory."""
    good = "test $((JOB_COMPLETION_INDEX % 2)) = 0 && exit 0"
    script = f"sleep 2; {good}; echo '{CUDA_WORDS}'; exit 1"

    resources = {"nvidia.com/mig-1g.18gb": 1}
    cluster.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "many", "namespace": "default"},
            "spec": {
                "completions": 50,
                "parallelism": 9,
                "completionMode": "Indexed",
                "backoffLimitPerIndex": 0,
                "maxFailedIndexes": 50,
                "template": {"spec": pod_spec([container(script, resources=resources)])},
            },
        }
    )
    counted: dict[str, float] = {}

    def all_counted() -> bool:
        for sample in exporter.samples(OOM):
            if sample.labels["pod"].startswith("many-") and sample.value:
                counted[sample.labels["pod"]] = sample.value
        return len(counted) >= 25

    exporter.until(all_counted, "25 pods are judged", seconds=240)
    assert set(counted.values()) == {1}
    assert {int(name.split("-")[1]) % 2 for name in counted} == {1}
    kinds = {
        sample.labels["workload_kind"]
        for sample in exporter.samples("gpu_allocation_info")
        if sample.labels["pod"].startswith("many-")
    }
    assert kinds <= {"Job", ""}


def test_pods_of_a_second_are_judged(cluster: Cluster, exporter: Exporter) -> None:
    names = [f"short-{number}" for number in range(12)]
    resources = {"nvidia.com/mig-1g.18gb": 1}
    cluster.create(
        *(pod(name, container(words_and_exit(CUDA_WORDS, 1, after="1"), resources=resources))
          for name in names)
    )  # fmt: skip
    counted: set[str] = set()

    def all_counted() -> bool:
        counted.update(name for name in names if verdicts(exporter, name))
        return counted == set(names)

    until(all_counted, "all are judged", seconds=90, show=lambda: f"judged: {sorted(counted)}")


def test_the_owner_hears_of_it_by_an_event(cluster: Cluster, exporter: Exporter) -> None:
    cluster.shell(
        "helm upgrade kube-gpu-exporter daemonset/chart --namespace gpu-monitoring --reset-then-"
        "reuse-values --set podEvents=true --wait --timeout=120s;"
        "kubectl -n gpu-monitoring rollout status daemonset/kube-gpu-exporter --timeout=120s"
    )
    exporter.until_sees_everything()
    cluster.apply(pod("heard", container(words_and_exit(CUDA_WORDS, 1, after="5"))))
    until(
        lambda: "GPUOutOfMemory" in cluster.kubectl("describe", "pod", "heard").stdout,
        "kubectl describe says so",
        show=exporter.log,
    )
    (event,) = [
        event for event in cluster.list("events", "--namespace=default")
        if event["reason"] == "GPUOutOfMemory" and event["involvedObject"]["name"] == "heard"
    ]  # fmt: skip
    assert event["count"] == 1
    assert event["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert event["message"].startswith("Container main ran out of GPU memory (")
