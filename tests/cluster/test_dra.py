"""Devices by Dynamic Resource Allocation, through a driver of the test's own."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.dra_driver import DRIVER
from tests.cluster.machine import places
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.daemons import Daemon
from tests.cluster.machine.waiting import until
from tests.cluster.pods import FOREVER, container, pod
from tests.cluster.scrapes import Exporter

pytestmark = pytest.mark.cluster

API = "resource.k8s.io/v1"
EXTENDED = "example.com/gpu"


def device(name: str, kind: str, uuid: str, **more: str) -> dict[str, Any]:
    attributes = {"type": kind, "uuid": uuid, **more}
    return {"name": name, "attributes": {k: {"string": v} for k, v in attributes.items()}}


def of_type(kind: str, *, admin: bool = False) -> dict[str, Any]:
    exactly: dict[str, Any] = {
        "deviceClassName": DRIVER,
        "selectors": [
            {"cel": {"expression": f"device.attributes['{DRIVER}'].type == '{kind}'"}}
        ],
    }  # fmt: skip
    if admin:
        exactly |= {"adminAccess": True}
    return {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}


def claim(name: str, spec: dict[str, Any], namespace: str = "default") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": API, "kind": "ResourceClaim", "metadata": metadata, "spec": spec}


def template(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": API,
        "kind": "ResourceClaimTemplate",
        "metadata": metadata,
        "spec": {"spec": spec},
    }


def by_claim(name: str, source: dict[str, str], namespace: str = "default") -> dict[str, Any]:
    uses = container(FOREVER, resources={})
    uses["resources"] = {"claims": [{"name": "gpu"}]}
    return pod(name, uses, namespace=namespace, resourceClaims=[{"name": "gpu", **source}])


@pytest.fixture(scope="module")
def driver(cluster: Cluster, installed: Exporter) -> Iterator[list[str]]:
    """Give the uuids of a whole GPU and a slice, which the driver publishes."""
    kubelet = cluster.node.kubelet_folder
    environment = [f"{name}={value}" for name, value in cluster.environment().items()]
    program = Daemon(
        "dra-driver",
        ["env", "-C", places.ROOT, *environment, sys.executable, "-m",
         "tests.cluster.dra_driver", kubelet],
    )  # fmt: skip
    program.start()
    until(lambda: "registered: True" in program.tail(), "it is registered", show=program.tail)
    whole = next(s for s in installed.samples("gpu_info", gpu="4"))
    cut = installed.samples("gpu_mig_info", gpu="6")[0]
    uuids = [whole.labels["uuid"], cut.labels["uuid"]]
    devices = [
        device("gpu-4", "gpu", uuids[0]),
        device("gpu-6-mig-0", "mig", uuids[1], parentUUID=cut.labels["gpu_uuid"]),
    ]
    cluster.apply(
        {
            "apiVersion": API,
            "kind": "DeviceClass",
            "metadata": {"name": DRIVER},
            "spec": {
                "selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}],
                "extendedResourceName": EXTENDED,
            },
        },
        {
            "apiVersion": API,
            "kind": "ResourceSlice",
            "metadata": {"name": "node-1-gpus"},
            "spec": {
                "driver": DRIVER,
                "nodeName": cluster.node.name,
                "pool": {"name": cluster.node.name, "generation": 1, "resourceSliceCount": 1},
                "devices": devices,
            },
        },
    )
    yield uuids
    cluster.kubectl("delete", "pods", "--all", "--grace-period=0", "--force")
    cluster.kubectl("delete", "resourceclaims,resourceclaimtemplates", "--all")
    cluster.kubectl("delete", "resourceslice", "node-1-gpus", "--ignore-not-found")
    cluster.kubectl("delete", "deviceclass", DRIVER)
    program.kill()


def test_a_claim_from_a_template(cluster: Cluster, exporter: Exporter, driver: list[str]) -> None:
    cluster.apply(template("one", of_type("gpu")))
    cluster.apply(by_claim("trains", {"resourceClaimTemplateName": "one"}))
    exporter.until_mapped("trains")
    (allocation,) = exporter.allocations("trains")
    assert allocation["uuid"] == driver[0]
    assert allocation["sharing"] == "dra"
    assert allocation["claim_namespace"] == "default"
    assert allocation["claim_name"].startswith("trains-gpu-")
    exporter.until(
        lambda: exporter.value("gpu_container_memory_used_bytes", pod="trains"), "it is measured"
    )
    assert not exporter.value("gpu_unresolved_claims")
    cluster.delete("pod", "trains")
    exporter.until(lambda: not exporter.allocations("trains"), "it is gone", seconds=150)


def test_a_slice_that_pods_share(cluster: Cluster, exporter: Exporter, driver: list[str]) -> None:
    cluster.apply(claim("shared", of_type("mig")))
    cluster.apply(*(by_claim(name, {"resourceClaimName": "shared"}) for name in ("a", "b")))
    for name in ("a", "b"):
        exporter.until_mapped(name)
        (allocation,) = exporter.allocations(name)
        assert (allocation["uuid"], allocation["claim_name"]) == (driver[1], "shared")


def test_who_has_access_as_an_administrator_takes_nothing_away(
    cluster: Cluster, exporter: Exporter, driver: list[str]
) -> None:
    cluster.kubectl("create", "namespace", "admins", check=False)
    cluster.kubectl("label", "namespace", "admins", "resource.kubernetes.io/admin-access=true",
                    "--overwrite")  # fmt: skip
    cluster.apply(template("one", of_type("gpu")))
    cluster.apply(by_claim("works", {"resourceClaimTemplateName": "one"}))
    exporter.until_mapped("works")
    cluster.apply(claim("looks", of_type("gpu", admin=True), "admins"))
    cluster.apply(by_claim("monitor", {"resourceClaimName": "looks"}, "admins"))
    cluster.kubectl("wait", "--namespace=admins", "--for=condition=Ready", "pod/monitor",
                    "--timeout=60s")  # fmt: skip
    exporter.until_mapped("works")
    assert exporter.allocations("works")[0]["uuid"] == driver[0]
    cluster.kubectl("delete", "namespace", "admins", "--timeout=120s")


def test_an_extended_resource_that_dra_serves(
    cluster: Cluster, exporter: Exporter, driver: list[str]
) -> None:
    cluster.apply(pod("extended", container(FOREVER, resources={EXTENDED: 1})))
    exporter.until_mapped("extended")
    assert exporter.allocations("extended")[0]["uuid"] in driver
