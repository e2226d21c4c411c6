"""Manifests of the pods that tests run."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.machine.images import BUSYBOX

Object = dict[str, Any]

FOREVER = "exec sleep 1000000"
CUDA_WORDS = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
GPU = "nvidia.com/gpu"


def container(
    script: str,
    *,
    name: str = "main",
    resources: Mapping[str, int | str] | None = None,
    **more: Any,
) -> Object:
    """Return a container that runs a shell script, with one whole GPU if not said otherwise."""
    limits = {GPU: 1} if resources is None else dict(resources)
    return {
        "name": name,
        "image": BUSYBOX,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "resources": {"limits": limits},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **more,
    }


def pod(
    name: str,
    *containers: Object,
    simulate: str | None = "idle",
    restart: str = "Never",
    namespace: str = "default",
    **spec: Any,
) -> Object:
    annotations = {"kube-gpu-exporter/simulate": simulate} if simulate else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": pod_spec(containers, restart, **spec),
    }


def pod_spec(containers: Sequence[Object], restart: str = "Never", **spec: Any) -> Object:
    return {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 1,
        "containers": list(containers) or [container(FOREVER)],
        **spec,
    }


def words_and_exit(words: str, code: int, *, after: str = "3") -> str:
    """Return a script that lives a little, says its last words and ends."""
    return f"sleep {after}; echo '{words}'; exit {code}"
