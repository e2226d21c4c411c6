"""Who holds what: the kubelet's claims, and the allocations that they resolve to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exporter.model.devices import Gpu, Slice


class PodName(NamedTuple):
    """The names of a pod. Pods of one name may succeed each other; only a UID is unique."""

    namespace: str
    name: str


class DraName(NamedTuple):
    """The names by which a ResourceClaim refers to a device in a ResourceSlice."""

    driver: str
    pool: str
    device: str


@dataclass(frozen=True, slots=True, order=True)
class Container:
    """A container by the names that the kubelet gives; pod-resources knows no UIDs."""

    namespace: str
    pod: str
    name: str

    @property
    def pod_name(self) -> PodName:
        return PodName(self.namespace, self.pod)


@dataclass(frozen=True, slots=True)
class Claim:
    """A container holds device-plugin id ``device_id`` of ``resource``."""

    container: Container
    resource: str
    device_id: str
    since: float = field(default=0.0, compare=False)
    """When it was first seen, in seconds of a monotonic clock; equal: seen in the same answer."""


@dataclass(frozen=True, slots=True)
class DraClaim:
    """A container holds ``device`` of ``pool`` through a DRA ResourceClaim."""

    container: Container
    claim_namespace: str
    claim_name: str
    driver: str
    pool: str
    device: str

    @property
    def device_name(self) -> DraName:
        return DraName(self.driver, self.pool, self.device)


@dataclass(frozen=True, slots=True)
class Claims:
    """One answer of the kubelet, narrowed to the GPU resources."""

    held: tuple[Claim, ...] = ()
    dra: tuple[DraClaim, ...] = ()
    allocatable: Mapping[str, tuple[str, ...]] | None = None
    """Advertised device ids by resource; ``None`` if the kubelet did not say."""


class Sharing(StrEnum):
    EXCLUSIVE = "exclusive"
    MIG = "mig"
    TIME_SLICED = "time_sliced"
    MPS = "mps"
    DRA = "dra"


class AllocationKey(NamedTuple):
    """Identifies an allocation: a container has a device at most once."""

    container: Container
    device_uuid: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """A claim resolved to a device that we see."""

    container: Container
    resource: str
    sharing: Sharing
    gpu: Gpu
    slice: Slice | None = None
    """``None``: the whole GPU."""
    share: float = 1.0
    """Part of the device that is held: shares held of shares advertised. 1 unless shared."""
    sole: bool = True
    """Whether all that the device does is this container's: neither shared nor in doubt."""
    claim_namespace: str = ""
    claim_name: str = ""
    """Of the ResourceClaim, where it is held through DRA."""

    @property
    def key(self) -> AllocationKey:
        return AllocationKey(self.container, self.device_uuid)

    @property
    def device_uuid(self) -> str:
        return self.slice.uuid if self.slice else self.gpu.uuid

    @property
    def measured_uuid(self) -> str:
        """Uuid of the device under which memory and activity are reported.

        Both belong to a GPU instance, and are reported under the instance's leading slice.
        """
        if self.slice is None:
            return self.gpu.uuid
        instance = self.slice.gpu_instance
        leading = (s.uuid for s in self.gpu.leading_slices if s.gpu_instance == instance)
        return next(leading, self.slice.uuid)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Claims against devices: what was found, and how many claims were not, by reason."""

    allocations: tuple[Allocation, ...] = ()
    unresolved: Mapping[str, int] = field(default_factory=dict)
