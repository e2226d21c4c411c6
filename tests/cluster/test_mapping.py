"""Which container has which device, as a real kubelet gives them out."""

import json
import time
from collections.abc import Sequence
from functools import partial
from statistics import median, quantiles

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import until
from tests.cluster.pods import FOREVER, GPU, container, pod
from tests.cluster.report import report
from tests.cluster.scrapes import Exporter

pytestmark = pytest.mark.cluster

MOST_SECONDS = 1.0
"""From a container's start to its pod on /metrics."""


def test_devices_of_every_kind_are_the_pods_that_requested_them(
    cluster: Cluster, exporter: Exporter
) -> None:
    wanted = {
        "whole": ({GPU: 2}, "exclusive", 2),
        "share": ({f"{GPU}.shared": 1}, "time_sliced", 1),
        "cut": ({"nvidia.com/mig-1g.18gb": 1}, "mig", 1),
        "bigger": ({"nvidia.com/mig-3g.71gb": 1}, "mig", 1),
    }
    cluster.apply(*(pod(name, container("env; " + FOREVER, resources=limits))
                    for name, (limits, _, _) in wanted.items()))  # fmt: skip
    for name, (limits, sharing, count) in wanted.items():
        exporter.until_mapped(name, count)
        allocations = exporter.allocations(name)
        (resource,) = limits
        assert {(a["resource"], a["sharing"]) for a in allocations} == {(resource, sharing)}
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        environment = dict(
            line.split("=", 1) for line in cluster.kubectl("logs", name).stdout.splitlines()
        )
        # What NVIDIA's plugin sets is the devices' own names.
        given = environment["NVIDIA_VISIBLE_DEVICES"].split(",")
        assert sorted(given) == sorted(a["uuid"] for a in allocations)
    exporter.until(
        lambda: exporter.value("gpu_allocated_devices", resource=GPU) == 2, "two are allocated"
    )
    assert exporter.value("gpu_unresolved_claims") in {0, None}


def test_an_annotation_drives_the_load_of_real_pods(cluster: Cluster, exporter: Exporter) -> None:
    loads = {"steady": "utilization=20%-80%, memory=10Gi", "lazy": "idle", "leek": "leek"}
    cluster.apply(*(pod(name, container(FOREVER), simulate=load) for name, load in loads.items()))
    exporter.until(
        lambda: 0.1 < (exporter.value("gpu_container_utilization_ratio", pod="steady") or 0) < 0.9,
        "the pod works",
    )
    assert exporter.value("gpu_container_memory_used_bytes", pod="steady") == pytest.approx(
        10 * 2**30, rel=0.01
    )
    for idle in ("lazy", "leek"):
        exporter.until_mapped(idle)
        exporter.until(
            partial(exporter.is_idle, idle),
            f"{idle} is idle",
        )
    lines = [line for line in exporter.log().splitlines() if "default/leek" in line]
    assert len(lines) == 1
    assert "expected one of steady, training" in lines[0]
    assert {gpu.labels["model"] for gpu in exporter.samples("gpu_info")} == {
        "NVIDIA H200 (simulated)"
    }


def test_a_static_pod_is_mapped(cluster: Cluster, exporter: Exporter) -> None:
    manifest = cluster.node.static_pods / "fixed.json"
    manifest.write_text(json.dumps(pod("fixed", container(FOREVER), restart="Always")))
    try:
        exporter.until_mapped("fixed-node-1")
    finally:
        manifest.unlink()
    exporter.until(lambda: not exporter.value("gpu_allocated_devices", resource=GPU), "it is gone")


def test_a_pod_is_mapped_within_a_second_of_its_start(cluster: Cluster, exporter: Exporter) -> None:
    """A hundred pods, five at once."""
    seconds = []
    for round_ in range(20):
        seconds += mapping_seconds(cluster, exporter, round_, BATCH)
    report(
        f"container start to mapped, {len(seconds)} pods",
        median=median(seconds),
        p99=quantiles(seconds, n=100)[98],
        most=max(seconds),
    )
    assert quantiles(seconds, n=100)[98] <= MOST_SECONDS


BATCH = (GPU, f"{GPU}.shared", *["nvidia.com/mig-1g.18gb"] * 3)


def mapping_seconds(
    cluster: Cluster, exporter: Exporter, number: int, resources: Sequence[str]
) -> list[float]:
    """Run pods that write down when they started; return how much later each was on /metrics."""
    script = "cat /proc/uptime; " + FOREVER
    names = [f"quick-{number}-{n}" for n in range(len(resources))]
    cluster.create(
        *(
            pod(name, container(script, resources={resource: 1}))
            for name, resource in zip(names, resources, strict=True)
        )
    )
    seen: dict[str, float] = {}

    def all_seen() -> bool:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for sample in exporter.samples("gpu_allocation_info"):
            seen.setdefault(sample.labels["pod"], now)
        return seen.keys() >= set(names)

    until(all_seen, "all are mapped", poll=0.02, show=exporter.log)
    cluster.kubectl(
        "wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s"
    )
    began = {name: float(cluster.kubectl("logs", name).stdout.split()[0]) for name in names}
    cluster.kubectl("delete", "pods", *names, "--grace-period=0", "--force")
    # Before its process runs, a container is made with its devices; then it may be mapped already.
    return [max(0.0, seen[name] - began[name]) for name in names]
