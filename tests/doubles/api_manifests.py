"""Pods and ResourceSlices as an API server tells them, as far as tests need them."""

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

NODE = "node-a"


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def manifest(
    name: str = "pod",
    *,
    namespace: str = "research",
    uid: str | None = None,
    node: str = NODE,
    labels: dict[str, str] | None = None,
    owner: tuple[str, str, str] | None = None,
    containers: list[Json] | None = None,
    statuses: list[Json] | None = None,
    **status: object,
) -> Json:
    """Return a running pod; ``owner`` is its controller's API version, kind and name."""
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "uid": uid or f"uid-of-{name}",
        "labels": labels or {},
        "annotations": {"example.com/dropped": "x" * 100},
        "managedFields": [{"manager": "kubelet", "operation": "Update"}],
    }
    if owner:
        version, kind, owner_name = owner
        metadata["ownerReferences"] = [
            {
                "apiVersion": version,
                "kind": kind,
                "name": owner_name,
                "uid": f"uid-of-{owner_name}",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": containers or [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [running()] if statuses is None else statuses,
            **status,
        },
    }


def requesting(name: str = "main", resource: str = "nvidia.com/gpu", **spec: object) -> Json:
    """Return a container's spec that requests one device of a resource."""
    wanted = {resource: "1"}
    return {"name": name, "resources": {"limits": wanted, "requests": wanted}, **spec}


def running(name: str = "main", *, restarts: int = 0, last: Json | None = None) -> Json:
    return {
        "name": name,
        "containerID": f"containerd://{name}-{restarts}",
        "restartCount": restarts,
        "state": {"running": {"startedAt": rfc3339(1000)}},
        "lastState": {"terminated": last} if last else {},
    }


def terminated(
    finished: float,
    *,
    exit_code: int = 1,
    reason: str = "Error",
    message: str | None = None,
    container_id: str | None = None,
) -> Json:
    ended: Json = {
        "exitCode": exit_code,
        "reason": reason,
        "startedAt": rfc3339(finished - 60),
        "finishedAt": rfc3339(finished),
        "containerID": f"containerd://{container_id or f'run-{finished:.0f}'}",
    }
    return ended | ({"message": message} if message else {})


def ended(name: str = "main", *, restarts: int = 0, last: Json | None = None, **how: Any) -> Json:
    return running(name, restarts=restarts, last=last) | {
        "state": {"terminated": terminated(**how)}
    }


GPU = "GPU-18db0e85-99e9-c746-8531-ffeb86328b39"
MIG = "MIG-4d806f22-346a-5a1d-ba01-86b505cdf485"


def string(value: str) -> dict[str, str]:
    return {"string": value}


def gpu(name: str = "gpu-0", uuid: str = GPU, kind: str = "gpu") -> Json:
    return {
        "name": name,
        "attributes": {
            "type": string(kind),
            "uuid": string(uuid),
            "productName": string("NVIDIA H100 80GB HBM3"),
            "driverVersion": {"version": "580.65.6"},
            "resource.kubernetes.io/pcieRoot": string("pci0000:01"),
        },
        "capacity": {"memory": {"value": "81559Mi"}},
    }


def mig(*, uuid: str | None = MIG, name: str = "gpu-0-mig-1g10gb-19-4") -> Json:
    attributes: Json = {
        "type": string("mig"),
        "parentUUID": string(GPU),
        "profile": string("1g.10gb"),
    }
    if uuid:
        attributes["uuid"] = string(uuid)
    return {"name": name, "attributes": attributes, "capacity": {"memorySlice4": {"value": "1"}}}


def resource_slice(*devices: Json, driver: str = "gpu.nvidia.com") -> Json:
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": "node-a-gpu.nvidia.com-x7k2p", "uid": "uid-of-slice"},
        "spec": {
            "driver": driver,
            "nodeName": "node-a",
            "pool": {"name": "node-a", "generation": 3, "resourceSliceCount": 1},
            "devices": list(devices),
        },
    }


def basic(device: Json) -> Json:
    """Return the device as v1beta1 has it."""
    return {
        "name": device["name"],
        "basic": {key: value for key, value in device.items() if key != "name"},
    }
