"""What the chart's pods are given of their node, and where they run."""

from typing import Any

from tests.daemonset.render import Object, example, find, helm_template
from tests.daemonset.validation import problems


def pod_of(objects: tuple[Object, ...]) -> Any:
    """Return the spec of the DaemonSet's pods, which is valid."""
    assert problems(objects) == []
    return find(objects, "DaemonSet")["spec"]["template"]["spec"]


def given(*values: str) -> Any:
    return pod_of(helm_template("--set", ",".join(values)))


def host_paths(pod: Any) -> dict[str, dict[str, str]]:
    """Return paths of the host, by where they are mounted."""
    paths = {one["name"]: one["hostPath"] for one in pod.get("volumes", []) if "hostPath" in one}
    (container,) = pod["containers"]
    return {
        mount["mountPath"]: paths[mount["name"]]
        for mount in container.get("volumeMounts", [])
        if mount["name"] in paths
    }


KUBELET = "/var/lib/kubelet/pod-resources"
GPUS = "/var/run/nvidia-container-devices/all"


def test_gpus_are_asked_for_by_a_mount_where_the_variable_is_ignored() -> None:
    null = {"path": "/dev/null", "type": "CharDevice"}
    assert GPUS not in host_paths(given("gpuAccess=environment"))
    for pod in (given("gpuAccess=volumeMount"), pod_of(example("eks-karpenter"))):
        assert host_paths(pod)[GPUS] == null
        # It would be in the way of nodes that do not look at mounts: there the image's own counts.
        assert "NVIDIA_VISIBLE_DEVICES" not in {one["name"] for one in pod["containers"][0]["env"]}


def test_without_the_kubelet_nothing_of_the_host_is_mounted() -> None:
    pod = given("kubelet.enabled=false")
    assert "--kubelet=off" in pod["containers"][0]["args"]
    assert "volumes" not in pod
    assert "volumeMounts" not in pod["containers"][0]
    assert host_paths(given("kubelet.enabled=false", "gpuAccess=volumeMount")).keys() == {GPUS}
    more = given("kubelet.enabled=false", "tls.secretName=cert", "basicAuth.secretName=login")
    assert {volume["name"] for volume in more["volumes"]} == {"tls", "users"}


def test_the_kubelet_may_have_another_root() -> None:
    pod = given("kubelet.rootDir=/data/kubelet")
    assert host_paths(pod) == {
        KUBELET: {"path": "/data/kubelet/pod-resources", "type": "Directory"}
    }
    assert host_paths(given("port=9400"))[KUBELET]["path"] == KUBELET


def test_nodes_of_ones_own_choice_are_linux_ones_still() -> None:
    own = given("nodeSelector.gpu=yes")["nodeSelector"]
    assert own == {"kubernetes.io/os": "linux", "gpu": "yes"}


def test_the_test_runs_wherever_an_exporter_may() -> None:
    values = "nodeSelector.gpu=yes,tolerations[0].operator=Exists,resources.limits.memory=300Mi"
    objects = helm_template("--set", values)
    exporters, test = pod_of(objects), find(objects, "Pod")["spec"]
    for name in ("nodeSelector", "tolerations"):
        assert test[name] == exporters[name]
    assert test["tolerations"] == [{"operator": "Exists"}]
    (container,) = test["containers"]
    assert container["resources"] == exporters["containers"][0]["resources"]
    # Its image asks for all GPUs.
    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in container["env"]


def test_a_test_that_succeeded_leaves_nothing_and_one_that_failed_can_be_looked_at() -> None:
    annotations = find(helm_template(), "Pod")["metadata"]["annotations"]
    policies = annotations["helm.sh/hook-delete-policy"].split(",")
    assert policies == ["before-hook-creation", "hook-succeeded"]
    assert "hook-failed" in annotations["helm.sh/hook-output-log-policy"]
