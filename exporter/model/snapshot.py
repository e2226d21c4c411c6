"""The latest state of everything, immutable: what scrapes are served from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from exporter.model.claims import Allocation, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Driver, Gpu
from exporter.model.oom import OomTotals
from exporter.model.pods import PodRecord
from exporter.model.readings import FastReading, FullReading, SlowReading
from exporter.model.verdicts import EndCounts

IDLE_RATIO: Final = 0.01
"""A device counts as idle while its mean utilization is below this.

It is above 0 because of what the measurement and the driver itself contribute.
"""


class GpuState(StrEnum):
    OK = "ok"
    LOST = "lost"
    HUNG = "hung"
    FAILED = "failed"
    REMOVED = "removed"
    """Taken out on purpose, which is no loss."""


@dataclass(frozen=True, slots=True)
class DeviceTotals:
    """The sums of a whole GPU or a slice over time, and its peaks in the peak window."""

    utilization_ratio: float | None = None
    """Mean over the last full tick."""
    utilization_peak_ratio: float | None = None
    busy_seconds: float | None = None
    memory_used_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GpuTotals:
    """Counters of a whole GPU. They never go back, whatever the hardware's own counters do."""

    energy_joules: float | None = None
    clock_event_seconds: Mapping[str, float] = field(default_factory=dict)
    pcie_receive_bytes: float | None = None
    pcie_transmit_bytes: float | None = None
    pcie_replays: float | None = None
    nvlink_receive_bytes: float | None = None
    nvlink_transmit_bytes: float | None = None
    nvlink_errors: Mapping[str, float] = field(default_factory=dict)
    ecc_errors: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class XidTotal:
    count: int
    last_timestamp: UnixSeconds


@dataclass(frozen=True, slots=True)
class GpuData:
    """The values of a GPU whose last reads succeeded."""

    fast: FastReading
    full: FullReading
    slow: SlowReading
    device: DeviceTotals
    totals: GpuTotals
    slices: Mapping[int, DeviceTotals] = field(default_factory=dict)
    """By GPU instance."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """A known GPU. Its health is always there, its data only while it can be read."""

    gpu: Gpu
    state: GpuState
    data: GpuData | None
    xids: Mapping[int, XidTotal]
    read_failures: Mapping[str, int]
    """By reason, since start."""
    last_sample_timestamp: UnixSeconds | None


@dataclass(frozen=True, slots=True)
class ContainerSample:
    """The values of one allocation. Once it has ended, only counters and peaks remain."""

    allocation: Allocation
    ended: bool
    allocated_seconds: float
    busy_seconds: float | None = None
    energy_joules: float | None = None
    utilization_ratio: float | None = None
    idle_seconds: float | None = None
    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    memory_peak_bytes: int | None = None
    utilization_peak_ratio: float | None = None
    pod: PodRecord | None = None
    """``None``: the pod watch is off, or has not seen the pod."""
    oom: OomTotals | None = None
    """``None``: the exporter does not learn of containers' ends."""


@dataclass(frozen=True, slots=True)
class Unattributed:
    """What a device did since the start that is booked on no container, and its memory likewise.

    It is the work of processes outside Kubernetes, the work while the device was not allocated, and
    the work of which the exporter does not know the container. The values of a device's containers
    and these sum to the values of the device. A value is ``None`` while it may include the work of
    a container that can't be measured.
    """

    busy_seconds: float | None = None
    energy_joules: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Whether something that the exporter reads from answers, and how long it takes."""

    name: str
    up: bool
    message: str = ""
    """Why it is down, for people."""
    duration_seconds: float | None = None
    failures: Mapping[str, int] = field(default_factory=dict)
    """By reason, since start."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    timestamp: UnixSeconds
    """Unix seconds at which it was made."""
    backend: str
    driver: Driver | None = None
    gpus: tuple[GpuSample, ...] = ()
    containers: tuple[ContainerSample, ...] = ()
    unattributed: Mapping[str, Unattributed] = field(default_factory=dict)
    """By device uuid."""
    container_ends: Mapping[Container, EndCounts] = field(default_factory=dict)
    """How often each container that has a GPU ended, by cause and confidence."""
    host_oom_kills: Mapping[Container, int] = field(default_factory=dict)
    """How often a container with a GPU was killed because the host ran out of memory."""
    host_oom_last: Mapping[Container, UnixSeconds] = field(default_factory=dict)
    """When that last happened to a container."""
    container_starts: Mapping[Container, UnixSeconds] = field(default_factory=dict)
    """When the present run of a container began, where that is known."""
    sources: tuple[SourceHealth, ...] = ()
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """Devices by resource."""
    allocated: Mapping[str, int] = field(default_factory=dict)
    unresolved: Mapping[str, int] = field(default_factory=dict)
    """Claims that match no device, by reason."""
    pod_labels: tuple[str, ...] = ()
    """The keys of the pod labels that are exported."""
    certificate_expires: float | None = None
    """Unix seconds at which the certificate of HTTPS expires; ``None`` where HTTP is served."""
