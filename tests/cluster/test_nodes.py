"""A second node, and a rollout that leaves one of the two in place."""

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import until
from tests.cluster.pods import FOREVER, container, pod
from tests.cluster.scrapes import NAMESPACE, Exporter

pytestmark = pytest.mark.cluster


def test_each_node_speaks_for_itself_and_a_rollout_takes_one_at_a_time(
    cluster: Cluster, exporter: Exporter
) -> None:
    second = cluster.add_node(2)
    try:
        cluster.kubectl(
            "label", "node", second.name, "kube-gpu-exporter/simulated-gpus=true", "--overwrite"
        )
        other = Exporter(cluster, second.name)
        until(other.address, "the second node has an exporter", show=second.tails)
        other.until_sees_everything()
        cluster.apply(
            *(pod(f"on-{node}", container(FOREVER), nodeName=node) for node in ("node-1", "node-2"))
        )
        exporter.until_mapped("on-node-1")
        other.until_mapped("on-node-2")
        assert not exporter.allocations("on-node-2")
        assert not other.allocations("on-node-1")
        assert {s.labels["node"] for s in other.samples("gpu_info")} == {second.name}

        cluster.shell(
            f"helm upgrade kube-gpu-exporter daemonset/chart --namespace {NAMESPACE}"
            " --reset-then-reuse-values --set podLabels.rollout=second"
        )
        fewest = 2

        def replaced() -> bool:
            nonlocal fewest
            found = cluster.find("daemonset", "kube-gpu-exporter", NAMESPACE) or {}
            status, generation = found["status"], found["metadata"]["generation"]
            fewest = min(fewest, status.get("numberReady", 0))
            return bool(
                status["observedGeneration"] == generation
                and status.get("updatedNumberScheduled") == 2
                and status.get("numberReady") == 2
            )

        until(replaced, "both are replaced", seconds=180)
        # maxUnavailable is a tenth, which is rounded up to one node.
        assert fewest == 1
        exporter.address()
        other.address()
        exporter.until_mapped("on-node-1")
        other.until_mapped("on-node-2")
    finally:
        cluster.delete("pods", "on-node-1", "on-node-2")
        cluster.remove_node(2)
