"""What one read of one device gave, by tick: fast, full and slow. And the driver's events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Gpu


class Reason(StrEnum):
    """Why a read failed. Each error of a vendor's library is mapped to one of these on purpose."""

    NOT_SUPPORTED = "not_supported"
    NOT_FOUND = "not_found"
    NO_PERMISSION = "no_permission"
    GPU_LOST = "gpu_lost"
    RESET_REQUIRED = "reset_required"
    TIMEOUT = "timeout"
    DRIVER_NOT_LOADED = "driver_not_loaded"
    LIBRARY_NOT_FOUND = "library_not_found"
    LIBRARY_MISMATCH = "library_mismatch"
    IMPLAUSIBLE = "implausible"
    """The driver answered with what no hardware can have."""
    UNKNOWN = "unknown"

    @property
    def ends_session(self) -> bool:
        """Whether the driver itself is gone, so that every device has to be opened again."""
        return self in {
            Reason.DRIVER_NOT_LOADED,
            Reason.LIBRARY_NOT_FOUND,
            Reason.LIBRARY_MISMATCH,
        }


@dataclass(frozen=True, slots=True)
class FieldFailure:
    """A field that should have been there and was not.

    "Not supported" is a failure only of what has been there before.
    """

    field: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Memory:
    """Frame buffer of a GPU or of a GPU instance."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    reserved_bytes: int | None = None
    """What the driver keeps for itself. ``None``: it does not tell (NVIDIA's before R510), and then
    ``used_bytes`` holds it too, else it does not."""


class ProcessType(StrEnum):
    COMPUTE = "compute"
    GRAPHICS = "graphics"
    MPS = "mps"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds a context on the GPU; ``pid`` is the host's."""

    pid: int
    type: ProcessType
    memory_used_bytes: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """What the driver's accounting kept of a process that has ended; ``pid`` was the host's."""

    pid: int
    started_at: UnixSeconds
    memory_peak_bytes: int
    """The most that it ever held of the GPU."""


@dataclass(frozen=True, slots=True)
class FastReading:
    """Memory and who holds it: cheap enough for every second."""

    memory: Memory | None = None
    instance_memory: Mapping[int, Memory] = field(default_factory=dict)
    """By GPU instance."""
    processes: tuple[Process, ...] | None = None
    ended: tuple[EndedProcess, ...] = ()
    """Those that have ended since the last fast reading, where the driver's accounting is on."""
    failures: tuple[FieldFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class UtilizationSample:
    """Share of time that a kernel ran, over the driver's sample period that ends at ``timestamp``.

    ``timestamp`` is in seconds of the driver's own clock: only differences mean something.
    """

    timestamp: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Activity:
    """Means over ``interval_seconds`` from the GPU performance monitor (GPM, Hopper and newer)."""

    interval_seconds: float
    graphics_ratio: float | None = None
    """Share of time in which the compute or graphics engine did anything."""
    sm_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    dram_ratio: float | None = None
    pipe_ratio: Mapping[str, float] = field(default_factory=dict)
    """By pipe: ``tensor``, ``fp16``, ``fp32``, ``fp64``, ``integer``."""
    pcie_receive_bytes: float | None = None
    """Bytes moved during the interval: mean rate times length."""
    pcie_transmit_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessUtilization:
    """Share of time in which a process's kernels ran, since the last reading that asked for it.

    A weight, in the first place: what processes have of each other's time is counted twice.
    """

    pid: int
    """The host's."""
    sm_ratio: float


UTILIZATION_SOURCES = ("samples", "rates", "gpm")
"""Where utilization comes from: the driver's sample buffer, its latest rate, or the performance
monitor's graphics activity. The first that answers is used."""


@dataclass(frozen=True, slots=True)
class FullReading:
    """What changes within seconds. Also says what the GPU is now, for MIG layouts change."""

    gpu: Gpu
    utilization: tuple[UtilizationSample, ...] | None = None
    """Samples since the last read, oldest first. May overlap earlier ones, may be empty."""
    utilization_source: str | None = None
    """Which of :data:`UTILIZATION_SOURCES` the samples come from; ``None``: there are none."""
    memory_busy_ratio: float | None = None
    engine_utilization_ratio: Mapping[str, float] = field(default_factory=dict)
    activity: Activity | None = None
    instance_activity: Mapping[int, Activity] = field(default_factory=dict)
    """By GPU instance."""
    power_draw_watts: float | None = None
    clock_hertz: Mapping[str, float] = field(default_factory=dict)
    temperature_celsius: Mapping[str, float] = field(default_factory=dict)
    fan_speed_ratio: Mapping[str, float] = field(default_factory=dict)
    clock_event_active: Mapping[str, bool] = field(default_factory=dict)
    performance_state: int | None = None
    process_utilization: tuple[ProcessUtilization, ...] | None = None
    """Of the processes that did anything. ``None``: not asked for, or the GPU does not tell."""
    failures: tuple[FieldFailure, ...] = ()


RECOVERY_ACTIONS = (
    "none",
    "reset",
    "reboot_node",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
    "unknown",
)
"""What a driver may ask for to recover a GPU; ``unknown`` is one that is younger than we are."""


@dataclass(frozen=True, slots=True)
class SlowReading:
    """What is expensive to read or hardly changes. Counters are the driver's own, raw."""

    energy_joules: float | None = None
    clock_event_seconds: Mapping[str, float] = field(default_factory=dict)
    power_limit_watts: float | None = None
    temperature_margin_celsius: float | None = None
    """Degrees left until the driver slows the GPU down."""
    pcie_replays: int | None = None
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    nvlink_receive_bytes: int | None = None
    nvlink_transmit_bytes: int | None = None
    nvlink_active_links: int | None = None
    nvlink_errors: Mapping[str, int] = field(default_factory=dict)
    ecc_errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Lifetime counts by (severity, location): ``corrected`` or ``uncorrected``; ``dram``, …

    No location holds another: next to ``sram`` there are none of its parts.
    """
    remapped_rows: Mapping[str, int] = field(default_factory=dict)
    """By cause: ``correctable``, ``uncorrectable``."""
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    row_remap_banks: Mapping[str, int] = field(default_factory=dict)
    """Memory banks by spare rows left: ``max``, ``high``, ``partial``, ``low``, ``none``."""
    retired_pages: Mapping[str, int] = field(default_factory=dict)
    """By cause: ``single_bit``, ``double_bit``."""
    retired_pages_pending: bool | None = None
    recovery_action: str | None = None
    """One of RECOVERY_ACTIONS."""
    failures: tuple[FieldFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class XidEvent:
    """The driver reported an XID on a GPU at ``timestamp``."""

    gpu_uuid: str
    timestamp: UnixSeconds
    xid: int


@dataclass(frozen=True, slots=True)
class GpuChanged:
    """Something read rarely has changed now, such as the MIG layout: read the GPU at once."""

    gpu_uuid: str


Event = XidEvent | GpuChanged
