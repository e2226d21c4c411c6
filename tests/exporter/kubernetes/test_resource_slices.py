"""Devices from ResourceSlices, as NVIDIA's driver publishes them."""

from typing import Any

import pytest

from exporter.kubernetes.slices import parse_slice
from exporter.model.pods import DraDevice
from tests.doubles.api_manifests import GPU, MIG, basic, gpu, mig, resource_slice

WHOLE = DraDevice("gpu.nvidia.com", "node-a", "gpu-0", GPU)
SLICE = DraDevice(
    "gpu.nvidia.com", "node-a", "gpu-0-mig-1g10gb-19-4", MIG, parent_uuid=GPU, profile="1g.10gb"
)


@pytest.mark.parametrize("of_version", [dict, basic], ids=["v1 and v1beta2", "v1beta1"])
def test_gpus_and_slices(of_version: Any) -> None:
    found = resource_slice(of_version(gpu()), of_version(mig()))
    assert parse_slice(found) == (3, (WHOLE, SLICE))


def test_a_slice_that_is_made_when_claimed_has_no_uuid_yet() -> None:
    _, [device] = parse_slice(resource_slice(mig(uuid=None)))
    assert (device.uuid, device.parent_uuid, device.profile, device.placement_start) == (
        "",
        GPU,
        "1g.10gb",
        4,
    )


@pytest.mark.parametrize(
    "device",
    [
        gpu("gpu-vfio-0", kind="vfio"),
        mig(uuid=None, name="of-another-form"),
        {"name": "bare"},
        {"name": "gpu-1", "attributes": {"uuid": {"int": 7}}},
    ],
)
def test_what_is_no_device_of_ours_is_left_out(device: dict[str, Any]) -> None:
    assert parse_slice(resource_slice(device, gpu())) == (3, (WHOLE,))


def test_other_drivers_are_left_out() -> None:
    found = resource_slice(gpu(), driver="compute-domain.nvidia.com")
    assert parse_slice(found) == (3, ())


def test_a_slice_without_devices_is_empty() -> None:
    found = resource_slice()
    found["spec"]["devices"] = None
    assert parse_slice(found) == (3, ())
