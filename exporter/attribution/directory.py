"""The devices of a node by every name under which one may be claimed."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf

from exporter.attribution.device_ids import DeviceId
from exporter.model.devices import Gpu, Slice
from exporter.model.pods import DraDevice


@dataclass(frozen=True, slots=True)
class Device:
    """A whole GPU, or one of its MIG slices."""

    gpu: Gpu
    slice: Slice | None = None

    @property
    def uuid(self) -> str:
        return self.slice.uuid if self.slice else self.gpu.uuid

    @property
    def shares_gpu_instance(self) -> bool:
        """Whether another slice has the same GPU instance, and so the same memory."""
        return self.slice is not None and any(
            other.gpu_instance == self.slice.gpu_instance and other.uuid != self.slice.uuid
            for other in self.gpu.slices
        )


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A GPU that had a number from ``since`` until ``until``."""

    device: Device
    since: float
    until: float


class Directory:
    """Finds devices by their names. A name matches only as a whole."""

    def __init__(self, gpus: Iterable[Gpu]) -> None:
        self._devices: dict[DeviceId, Device] = {}
        self._numbered: defaultdict[int, list[_Numbered]] = defaultdict(list)
        for gpu in gpus:
            whole = Device(gpu)
            self._devices[DeviceId(uuid=gpu.uuid)] = whole
            self._add_numbers(whole)
            if gpu.minor_number is not None:
                self._devices[DeviceId(minor_number=gpu.minor_number)] = whole
            for slice_ in gpu.slices:
                self._add_slice(Device(gpu, slice_), slice_)

    def find(self, device_id: DeviceId, seen: float = inf) -> Device | None:
        """Return the device that an id names, whichever share of the device the id stands for.

        An id that is a GPU's number names the GPU that had the number when the id was first
        ``seen``, in monotonic seconds: the driver numbers GPUs anew when one comes or goes, and
        the device plugin does not.
        """
        if device_id.index is None:
            return self._devices.get(replace(device_id, share=None))
        numbered = self._numbered.get(device_id.index, [])
        had = [one for one in numbered if one.since <= seen < one.until]
        got_later = [one for one in numbered if one.since > seen]
        if had:
            return max(had, key=lambda one: one.since).device
        # The id is older than the first session that listed the GPU.
        return min(got_later, key=lambda one: one.since).device if got_later else None

    def find_dra(self, published: DraDevice) -> list[Device]:
        """Return the devices that a device of a DRA driver may be.

        Its UUID decides. A slice that the driver makes only when it is claimed has no UUID in
        advance. Such a slice is any slice of its GPU that has its profile, and its place, if the
        places of the GPU's slices are known.
        """
        if published.uuid:
            device = self.find(DeviceId(uuid=published.uuid))
            return [device] if device else []
        parent = self.find(DeviceId(uuid=published.parent_uuid)) if published.parent_uuid else None
        if parent is None:
            return []
        return [Device(parent.gpu, slice_) for slice_ in _slices_like(published, parent.gpu)]

    def _add_numbers(self, device: Device) -> None:
        numbers = device.gpu.numbers or ((-inf, device.gpu.index),)
        ends = [since for since, _ in numbers[1:]] + [inf]
        for (since, number), until in zip(numbers, ends, strict=True):
            self._numbered[number].append(_Numbered(device, since, until))

    def _add_slice(self, device: Device, slice_: Slice) -> None:
        gpu, instance = device.gpu, slice_.gpu_instance
        by_instances = DeviceId(
            uuid=gpu.uuid, gpu_instance=instance, compute_instance=slice_.compute_instance
        )
        self._devices[DeviceId(uuid=slice_.uuid)] = device
        self._devices[by_instances] = device
        # GKE names a slice by its GPU instance only: that is the instance's leading slice.
        if gpu.minor_number is not None and slice_ in gpu.leading_slices:
            by_minor = DeviceId(minor_number=gpu.minor_number, gpu_instance=instance)
            self._devices[by_minor] = device


def _slices_like(published: DraDevice, gpu: Gpu) -> list[Slice]:
    slices = [slice_ for slice_ in gpu.slices if slice_.profile == published.profile]
    places = {slice_.placement_start for slice_ in slices}
    if places <= {None}:
        return slices
    return [slice_ for slice_ in slices if slice_.placement_start == published.placement_start]
