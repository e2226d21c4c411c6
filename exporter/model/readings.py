"""What one read of a GPU gives, by tick: fast, full and slow. Also the driver's events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Gpu


class Reason(StrEnum):
    """Why a read failed. A backend maps each error of its library to one of these."""

    NOT_SUPPORTED = "not_supported"
    NOT_FOUND = "not_found"
    NO_PERMISSION = "no_permission"
    GPU_LOST = "gpu_lost"
    GPU_REMOVED = "gpu_removed"
    """It was taken out on purpose: bound to another kernel driver, or off the PCI bus."""
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
    """A field that should be in a reading and is not.

    "Not supported" is a failure only if the field has been there before.
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
    """The memory that the driver keeps for itself, which ``used_bytes`` does not include.

    ``None``: the driver does not report it (NVIDIA's before R510), and ``used_bytes`` includes it.
    """


class ProcessType(StrEnum):
    COMPUTE = "compute"
    GRAPHICS = "graphics"
    MPS = "mps"


@dataclass(frozen=True, slots=True)
class Process:
    """A process that has a context on the GPU; ``pid`` is the host's."""

    pid: int
    type: ProcessType
    memory_used_bytes: int | None = None
    gpu_instance: int | None = None
    compute_instance: int | None = None


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """What the driver's accounting says about a process that has ended; ``pid`` is the host's."""

    pid: int
    started_at: UnixSeconds
    memory_peak_bytes: int
    """The most memory of the GPU that the process ever used."""


@dataclass(frozen=True, slots=True)
class FastReading:
    """Memory and the processes that use it. The reading is cheap enough for every second."""

    memory: Memory | None = None
    instance_memory: Mapping[int, Memory] = field(default_factory=dict)
    """By GPU instance."""
    processes: tuple[Process, ...] | None = None
    ended: tuple[EndedProcess, ...] = ()
    """Processes that have ended since the last fast reading, if the driver's accounting is on."""
    failures: tuple[FieldFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class UtilizationSample:
    """The share of time in which a kernel ran, over a sample period of the driver.

    The period ends at ``timestamp``, in seconds of the driver's own clock. Only differences between
    its times mean something.
    """

    timestamp: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Activity:
    """Means over ``interval_seconds`` from the GPU performance monitor (GPM, Hopper and newer)."""

    interval_seconds: float
    graphics_ratio: float | None = None
    """The share of time in which the compute or graphics engine did anything."""
    sm_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    dram_ratio: float | None = None
    pipe_ratio: Mapping[str, float] = field(default_factory=dict)
    """By pipe: ``tensor``, ``fp16``, ``fp32``, ``fp64``, ``integer``."""
    pcie_receive_bytes: float | None = None
    """The bytes that were moved during the interval: the mean rate times the length."""
    pcie_transmit_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class ProcessUtilization:
    """The share of time in which a process's kernels ran, since the last reading that asked.

    It serves as a weight. Time in which kernels of two processes run is counted for both.
    """

    pid: int
    """The pid on the host."""
    sm_ratio: float


UTILIZATION_SOURCES: Final = ("samples", "rates", "gpm")
"""Where utilization comes from: the driver's sample buffer, its latest rate, or the performance
monitor's graphics activity. The first that answers is used."""


@dataclass(frozen=True, slots=True)
class FullReading:
    """What changes within seconds. It includes the GPU itself, because MIG layouts change."""

    gpu: Gpu
    utilization: tuple[UtilizationSample, ...] | None = None
    """Samples since the last read, oldest first. They may repeat earlier ones, or be empty."""
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
    """The processes that did anything. ``None``: not asked for, or not reported by the driver."""
    failures: tuple[FieldFailure, ...] = ()


RECOVERY_ACTIONS: Final = (
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
"""The actions by which a driver may ask to recover a GPU.

``unknown`` stands for an action that is newer than this program.
"""


@dataclass(frozen=True, slots=True)
class SlowReading:
    """What is expensive to read, or hardly changes. Counters are the raw ones of the driver."""

    energy_joules: float | None = None
    clock_event_seconds: Mapping[str, float] = field(default_factory=dict)
    power_limit_watts: float | None = None
    temperature_margin_celsius: float | None = None
    """The degrees that are left until the driver slows the GPU down."""
    pcie_replays: int | None = None
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    nvlink_receive_bytes: int | None = None
    nvlink_transmit_bytes: int | None = None
    nvlink_active_links: int | None = None
    nvlink_errors: Mapping[str, int] = field(default_factory=dict)
    ecc_errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Counts over the life of the board by severity and location.

    The severity is ``corrected`` or ``uncorrected``. Locations such as ``dram`` do not overlap: if
    there is ``sram``, the blocks of the SRAM are not listed as well.
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
    """Something that is read rarely has changed, such as the MIG layout: read the GPU at once."""

    gpu_uuid: str


Event = XidEvent | GpuChanged
