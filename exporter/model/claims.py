"""The kubelet's claims, and the allocations that they resolve to."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exporter.model.clocks import Monotonic
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
    """The kubelet has given a container the device-plugin id ``device_id`` of ``resource``."""

    container: Container
    resource: str
    device_id: str
    since: Monotonic = field(default=Monotonic(0.0), compare=False)
    """When the claim was first seen, in monotonic seconds.

    Claims of equal times were first seen in the same answer.
    """


@dataclass(frozen=True, slots=True)
class DraClaim:
    """The kubelet has given a container ``device`` of ``pool`` through a DRA ResourceClaim."""

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
    """A device is allocated to a container: a claim, resolved to a device that we see."""

    container: Container
    resource: str
    sharing: Sharing
    gpu: Gpu
    slice: Slice | None = None
    """``None``: the whole GPU."""
    share: float = 1.0
    """The fraction of the device: the container's shares of all shares that are advertised.

    1 if the device is not shared.
    """
    sole: bool = True
    """Whether all that the device does is this container's.

    It is not if the device is shared, or if it is unknown which of several containers has it.
    """
    claim_namespace: str = ""
    claim_name: str = ""
    """The names of the ResourceClaim, if the device was allocated through DRA."""

    @property
    def key(self) -> AllocationKey:
        return AllocationKey(self.container, self.device_uuid)

    @property
    def device_uuid(self) -> str:
        return self.slice.uuid if self.slice else self.gpu.uuid

    @property
    def measured_uuid(self) -> str:
        """The UUID of the device under which memory and activity are kept.

        Under MIG both belong to a GPU instance, and are kept under the instance's leading slice.
        """
        if self.slice is None:
            return self.gpu.uuid
        instance = self.slice.gpu_instance
        leading = (s.uuid for s in self.gpu.leading_slices if s.gpu_instance == instance)
        return next(leading, self.slice.uuid)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The allocations that the claims amount to, and the claims that match no device."""

    allocations: tuple[Allocation, ...] = ()
    unmatched: tuple[tuple[Claim | DraClaim, str], ...] = ()
    """Each with the reason."""

    @property
    def unresolved(self) -> Mapping[str, int]:
        """How many claims match no device, by reason."""
        return Counter(reason for _, reason in self.unmatched)
