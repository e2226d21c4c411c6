"""What is known of pods beside their claims: from the API server, narrowed to what we need."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.claims import Container, DraName, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import Cause, LastWords


@dataclass(frozen=True, slots=True)
class Termination:
    """A container ended. There is one per container and restart, however often it is listed."""

    container: Container
    pod_uid: str
    restart_count: int
    """Restarts before the run that ended."""
    exit_code: int
    reason: str
    """The kubelet's word: ``Error``, ``OOMKilled``, ``Completed``, ``Evicted``, …"""
    words: LastWords
    """What its termination message says."""
    started_at: UnixSeconds | None
    finished_at: UnixSeconds
    """By the node's clock, in whole seconds, rounded down."""
    actor: Cause | None = None
    """What ended the container from outside, by the pod's own status: an eviction, a preemption, a
    deadline, or a request to stop. ``None``: nothing did, as far as the status says."""
    has_shm: bool = True
    """Whether the pod gives the container a ``/dev/shm`` of its own, or the host's. Else a runtime
    gives it 64 MiB."""
    init: bool = False
    """Whether the container is one of the pod's init containers, sidecars included."""
    wants_devices: bool = False
    """Whether the container requests one of the resources that are GPUs."""


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A container of a pod, by the pod's status."""

    name: str
    container_id: str | None = None
    """The present run's, by the runtime, without its scheme; ``None`` until there is one."""
    running_since: UnixSeconds | None = None
    """``None``: the container does not run."""


class Exemption(StrEnum):
    """Which alerts the owner of a pod does not want."""

    UNDERUSE = "underuse"
    MEMORY = "memory"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod of this node."""

    uid: str
    namespace: str
    name: str
    workload_kind: str
    """Of what brought the pod about: ``Deployment``, ``Job``, ``PyTorchJob``, … or ``Pod``."""
    workload: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Those that the configuration allows, by their own keys."""
    exempt: frozenset[Exemption] = frozenset()
    containers: tuple[ContainerRecord, ...] = ()
    """Those that the kubelet has reported, without init containers that run once."""
    simulate: str | None = None
    """What the pod does on simulated GPUs, by its annotation."""
    wants_devices: bool = False
    """Whether a container of the pod requests one of the resources that are GPUs, or has a
    ResourceClaim of any driver."""
    ended: bool = False
    """Whether all containers of the pod have ended for good, and its devices are free."""

    @property
    def pod_name(self) -> PodName:
        return PodName(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class DraDevice:
    """A device that a DRA driver publishes in a ResourceSlice."""

    driver: str
    pool: str
    device: str
    uuid: str
    """Of the GPU or slice: ``GPU-…`` or ``MIG-…``. Empty: a slice that is made when it is claimed,
    of which ``parent_uuid``, ``profile`` and ``placement_start`` are known instead."""
    parent_uuid: str | None = None
    """Of a slice: its GPU's."""
    profile: str | None = None
    """Of a slice: ``1g.10gb``."""
    placement_start: int | None = None
    """Of a slice to be made: the first of the GPU's memory slices that it will take."""

    @property
    def device_name(self) -> DraName:
        return DraName(self.driver, self.pool, self.device)
