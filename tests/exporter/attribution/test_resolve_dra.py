"""Claims through DRA, by the devices that ResourceSlices publish."""

from dataclasses import replace

import pytest

from exporter.attribution.resolve import resolve
from exporter.model.claims import Claim, Claims, Container, DraClaim, DraName, Sharing
from exporter.model.pods import DraDevice
from tests.doubles.scripted import MIG_GPU, gpu, mig_slice

KEY = DraName("gpu.nvidia.com", "node-1", "gpu-0")


def claim(pod: str, device: str = "gpu-0") -> DraClaim:
    return DraClaim(
        Container("ml", pod, "main"), "ml", f"{pod}-claim", "gpu.nvidia.com", "node-1", device
    )


def published(uuid: str = "", **more: str | int) -> dict[DraName, DraDevice]:
    return {KEY: DraDevice(*KEY, uuid=uuid, **more)}  # type: ignore[arg-type]


def test_a_whole_gpu_by_its_uuid() -> None:
    resolution = resolve(
        Claims(dra=(claim("train"),)), [gpu(0), gpu(1)], dra_devices=published(gpu(1).uuid)
    )
    (allocation,) = resolution.allocations
    assert (allocation.gpu.index, allocation.slice, allocation.sharing) == (1, None, Sharing.DRA)
    assert (allocation.claim_namespace, allocation.claim_name) == ("ml", "train-claim")
    assert (allocation.share, allocation.sole) == (1.0, True)
    assert allocation.resource == "gpu.nvidia.com"


def test_a_slice_by_its_uuid() -> None:
    devices = published(MIG_GPU.slices[1].uuid, parent_uuid=MIG_GPU.uuid, profile="1g.10gb")
    (allocation,) = resolve(
        Claims(dra=(claim("train"),)), [MIG_GPU], dra_devices=devices
    ).allocations
    assert allocation.slice == MIG_GPU.slices[1]


def test_a_slice_made_on_claiming_is_the_only_one_of_its_profile() -> None:
    single = gpu(0, mig_enabled=True, slices=(mig_slice(1, 16),))
    devices = published(parent_uuid=single.uuid, profile="1g.10gb")
    (allocation,) = resolve(
        Claims(dra=(claim("train"),)), [single], dra_devices=devices
    ).allocations
    assert allocation.slice == single.slices[0]


def test_of_several_slices_made_on_claiming_the_place_decides() -> None:
    slices = tuple(
        replace(mig_slice(number, 16), placement_start=start) for number, start in ((7, 6), (8, 4))
    )
    cut = gpu(0, mig_enabled=True, slices=slices)
    devices = published(parent_uuid=cut.uuid, profile="1g.10gb", placement_start=4)
    (allocation,) = resolve(Claims(dra=(claim("train"),)), [cut], dra_devices=devices).allocations
    assert allocation.slice == slices[1]
    elsewhere = published(parent_uuid=cut.uuid, profile="1g.10gb", placement_start=0)
    resolution = resolve(Claims(dra=(claim("train"),)), [cut], dra_devices=elsewhere)
    assert resolution.unresolved == {"no_such_device": 1}


def test_a_slice_whose_place_is_unknown_is_not_taken_beside_ones_whose_is_known() -> None:
    slices = tuple(
        replace(mig_slice(number, 16), placement_start=start)
        for number, start in ((7, None), (8, 4))
    )
    cut = gpu(0, mig_enabled=True, slices=slices)
    devices = published(parent_uuid=cut.uuid, profile="1g.10gb", placement_start=4)
    (allocation,) = resolve(Claims(dra=(claim("train"),)), [cut], dra_devices=devices).allocations
    assert allocation.slice == slices[1]
    elsewhere = published(parent_uuid=cut.uuid, profile="1g.10gb", placement_start=2)
    resolution = resolve(Claims(dra=(claim("train"),)), [cut], dra_devices=elsewhere)
    assert resolution.unresolved == {"no_such_device": 1}


def test_containers_that_share_a_claim_hold_equal_parts() -> None:
    claims = Claims(dra=(claim("a"), claim("b")))
    first, second = resolve(claims, [gpu(0)], dra_devices=published(gpu(0).uuid)).allocations
    assert (first.share, second.share) == (0.5, 0.5)
    assert not first.sole
    assert not second.sole


def test_a_device_that_a_plugin_gave_away_as_well_is_nobodys_alone() -> None:
    plugin = Claim(Container("ml", "b", "main"), "nvidia.com/gpu", gpu(0).uuid)
    claims = Claims(held=(plugin,), dra=(claim("a"),))
    found = resolve(claims, [gpu(0)], dra_devices=published(gpu(0).uuid)).allocations
    assert sum(allocation.share for allocation in found) == pytest.approx(1.0)
    assert not any(allocation.sole for allocation in found)


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ({}, "dra"),
        (published("GPU-elsewhere"), "no_such_device"),
        (published(), "no_such_device"),
        (published(parent_uuid="GPU-elsewhere", profile="1g.10gb"), "no_such_device"),
        (published(parent_uuid=MIG_GPU.uuid, profile="7g.80gb"), "no_such_device"),
        (published(parent_uuid=MIG_GPU.uuid, profile="1g.10gb"), "dra_ambiguous"),
    ],
)
def test_what_cannot_be_found_is_unresolved(devices: dict[DraName, DraDevice], reason: str) -> None:
    resolution = resolve(Claims(dra=(claim("a"),)), [MIG_GPU], dra_devices=devices)
    assert resolution.allocations == ()
    assert resolution.unresolved == {reason: 1}
