"""What of the driver's answers is believed, and how it becomes base units: one table.

Drivers answer garbage now and then: the maximum of a C type, a percentage of 4 294 967 295, a
counter that leaps by 2^64. Such a value must reach neither a reading nor a counter. So each field
of each reading has a row in :data:`TABLE`, which says what its value may be and what converts it,
and :class:`~exporter.gpus.nvml.gate.Gate` makes no reading without it.

The limits are those of the board where it reports any, and else what no board will have for years.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import pynvml

from exporter.gpus.nvml.library import CallError
from exporter.model.devices import Driver, Gpu, Slice
from exporter.model.readings import (
    RECOVERY_ACTIONS,
    UTILIZATION_SOURCES,
    Activity,
    EndedProcess,
    FastReading,
    FullReading,
    GpuChanged,
    Memory,
    Process,
    ProcessType,
    ProcessUtilization,
    Reason,
    SlowReading,
    UtilizationSample,
    XidEvent,
)

MAXIMA = frozenset({-1, *(2**bits - 1 for bits in (31, 32, 63, 64))})
"""The largest values of C's integers, also read as signed: they say "none", or are garbage."""

MOST_WATTS = 10_000.0
MOST_HERTZ = 40e9
"""Memory clocks are reported at up to 16 GHz today."""
MOST_BYTES = 2**50
HOTTEST_CELSIUS = 150.0
MOST_SECONDS = 100 * 365 * 86400.0
NVLINK_BYTES_PER_SECOND = 4e12
"""Of all links of a GPU in one direction; NVLink 5 has 0.9e12."""
ERRORS_PER_SECOND = 1e7
"""More errors than that would leave a link or a memory no time to work."""


class Implausible(CallError):  # noqa: N818  it is a CallError
    """NVML answered without an error, with what no hardware can have."""

    def __init__(self, what: str, raw: object) -> None:
        super().__init__(pynvml.NVML_ERROR_UNKNOWN)
        self._text = f"no hardware has {raw!r} as its {what}"

    @property
    def reason(self) -> Reason:
        return Reason.IMPLAUSIBLE

    def __str__(self) -> str:
        return self._text


@dataclass(frozen=True, slots=True)
class Board:
    """What the limits of some values follow from; ``None`` where the board does not report it."""

    power_limit_watts: float | None = None
    memory_total_bytes: int | None = None
    clock_max_hertz: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Where:
    """What stands around a raw value."""

    board: Board
    beside: Mapping[str, Any]
    """The raw values of the same object."""
    part: object = None
    """The key, in a field that is a mapping."""


Limit = Callable[[Where], float | None]


class Bound(Protocol):
    """A row of the table."""

    def admit(self, raw: Any, where: Where) -> Any:
        """Return the value in base units. Raise ``ValueError`` if no hardware can have it."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number between ``low`` and ``high``, in the unit that ``times`` or ``per`` converts to.

    ``most``: also at most so much on this board. ``slack``: so little outside is rounding, and is
    taken for the limit itself.
    """

    low: float
    high: float
    times: float = 1
    per: float = 1
    most: Limit = lambda _: None
    slack: float = 0.0
    whole: bool = False

    def admit(self, raw: Any, where: Where) -> float:
        if not isinstance(raw, int | float) or not math.isfinite(raw) or raw in MAXIMA:
            raise ValueError(raw)
        value = raw * self.times if self.per == 1 else raw / self.per
        board = self.most(where)
        high = self.high if board is None else min(self.high, board)
        if not self.low - self.slack <= value <= high + self.slack:
            raise ValueError(raw)
        value = min(max(value, self.low), high) if self.slack else value
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, slots=True)
class Counter(Number):
    """A number that only counts up, by ``rate`` a second at most.

    The gate also rejects a step between two readings that is more than twice that.
    """

    rate: Limit = lambda _: None


@dataclass(frozen=True, slots=True)
class Flag:
    def admit(self, raw: Any, where: Where) -> bool:
        del where
        if raw not in {0, 1}:
            raise ValueError(raw)
        return bool(raw)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a length that NVML's buffers have."""

    def admit(self, raw: Any, where: Where) -> str:
        del where
        if not isinstance(raw, str) or len(raw) > 128:
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Word:
    words: Collection[str]

    def admit(self, raw: Any, where: Where) -> Any:
        del where
        if raw not in self.words:
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Listed:
    """The number of a word in a list, which newer drivers may make longer."""

    words: tuple[str, ...]
    other: str

    def admit(self, raw: Any, where: Where) -> str:
        number = int(Number(0, 63).admit(raw, where))
        return self.words[number] if number < len(self.words) else self.other


@dataclass(frozen=True, slots=True)
class PciAddress:
    """(domain, bus, device) -> the kernel's form: ``0000:3b:00.0``."""

    def admit(self, raw: Any, where: Where) -> str:
        domain, bus, device = raw
        for number, high in ((domain, 2**31), (bus, 0xFF), (device, 0x1F)):
            Number(0, high).admit(number, where)
        # NVML writes 00000000:3B:00.0; a GPU's functions besides 0 are never its own.
        return f"{domain:04x}:{bus:02x}:{device:02x}.0"


@dataclass(frozen=True, slots=True)
class CudaVersion:
    """13020 -> ``13.2``."""

    def admit(self, raw: Any, where: Where) -> str:
        number = int(Number(1000, 99_999).admit(raw, where))
        return f"{number // 1000}.{number % 1000 // 10}"


@dataclass(frozen=True, slots=True)
class Each:
    """A mapping, each value of which the bound admits or not."""

    bound: Bound

    def admit(self, raw: Any, where: Where) -> Any:
        return self.bound.admit(raw, where)


@dataclass(frozen=True, slots=True)
class Made:
    """What the gate itself has made before: an object with rows of its own, or several."""

    kind: type

    def admit(self, raw: Any, where: Where) -> Any:
        del where
        if not all(isinstance(one, self.kind) for one in (raw if type(raw) is tuple else (raw,))):
            raise TypeError(raw)
        return raw


def _beside(name: str) -> Limit:
    def limit(where: Where) -> float | None:
        value = where.beside.get(name)
        return value if isinstance(value, int | float) else None

    return limit


def _total(where: Where) -> float | None:
    return where.board.memory_total_bytes


def _twice_the_limit(where: Where) -> float | None:
    limit = where.board.power_limit_watts
    return None if limit is None else 2 * limit


def _twice_the_maximum(where: Where) -> float | None:
    return 2 * where.board.clock_max_hertz.get(str(where.part), 0.0) or None


def _moved(where: Where) -> float:
    """Convert bytes of 1 TB/s, which no PCIe link will have for years."""
    return 1e12 * float(where.beside["interval_seconds"])


RATIO = Number(0, 1, per=100)
GPM_RATIO = Number(0, 1, per=100, slack=0.01)
"""GPM's means are floating-point numbers, and may be a little above what is possible."""

_BYTES = Number(0, MOST_BYTES, whole=True)
_MEGAHERTZ = Number(0, MOST_HERTZ, times=1e6)
_CELSIUS = Number(-50, HOTTEST_CELSIUS)
_SMALL_COUNT = Number(0, 1_000_000, whole=True)
_ERRORS = Counter(0, 2**52, whole=True, rate=lambda _: ERRORS_PER_SECOND)
_NVLINK_BYTES = Counter(0, 1e21, times=1024, whole=True, rate=lambda _: NVLINK_BYTES_PER_SECOND)
_PID = Number(1, 2**22, whole=True)
"""The kernel's PID_MAX_LIMIT."""
_INSTANCE = Number(0, 255, whole=True)
_SM_COUNT = Number(1, 4096, whole=True)
_GPU_INDEX = Number(0, 1023, whole=True)
_PCIE_GENERATION = Number(1, 12, whole=True)
_PCIE_WIDTH = Number(1, 32, whole=True)
_UNIX_SECONDS = Number(0, 2**32)

TABLE: Mapping[type, Mapping[str, Bound]] = MappingProxyType(
    {
        Driver: {"vendor": Text(), "version": Text(), "cuda_version": CudaVersion()},
        Gpu: {
            "uuid": Text(),
            "index": _GPU_INDEX,
            "model": Text(),
            "minor_number": Number(0, 1023, whole=True),
            "serial": Text(),
            "pci_bus_id": PciAddress(),
            "architecture": Text(),
            "vbios_version": Text(),
            "sm_count": _SM_COUNT,
            "mig_enabled": Flag(),
            "slices": Made(Slice),
            "clock_max_hertz": Each(_MEGAHERTZ),
            "temperature_threshold_celsius": Each(_CELSIUS),
            "pcie_link_generation_max": _PCIE_GENERATION,
            "pcie_link_width_max": _PCIE_WIDTH,
            "numbers": Made(tuple),  # ours
        },
        Slice: {
            "uuid": Text(),
            "gpu_uuid": Text(),
            "gpu_index": _GPU_INDEX,
            "gpu_instance": _INSTANCE,
            "compute_instance": _INSTANCE,
            "profile": Text(),
            "sm_count": _SM_COUNT,
            "placement_start": Number(0, 63, whole=True),
        },
        FastReading: {
            "memory": Made(Memory),
            "instance_memory": Each(Made(Memory)),
            "processes": Made(Process),
            "ended": Made(EndedProcess),
        },
        Memory: {
            "total_bytes": Number(1, MOST_BYTES, whole=True),
            "used_bytes": Number(0, MOST_BYTES, whole=True, most=_beside("total_bytes")),
            "free_bytes": Number(0, MOST_BYTES, whole=True, most=_beside("total_bytes")),
            "reserved_bytes": Number(0, MOST_BYTES, whole=True, most=_beside("total_bytes")),
        },
        Process: {
            "pid": _PID,
            "type": Word(tuple(ProcessType)),
            "memory_used_bytes": Number(0, MOST_BYTES, whole=True, most=_total),
            "gpu_instance": _INSTANCE,
            "compute_instance": _INSTANCE,
        },
        EndedProcess: {
            "pid": _PID,
            "started_at": Number(0, 2**32, per=1e6),
            "memory_peak_bytes": Number(0, MOST_BYTES, whole=True, most=_total),
        },
        FullReading: {
            "gpu": Made(Gpu),
            "utilization": Made(UtilizationSample),
            "utilization_source": Word(UTILIZATION_SOURCES),
            "memory_busy_ratio": RATIO,
            "engine_utilization_ratio": Each(RATIO),
            "activity": Made(Activity),
            "instance_activity": Each(Made(Activity)),
            "power_draw_watts": Number(0, MOST_WATTS, per=1e3, most=_twice_the_limit),
            "clock_hertz": Each(Number(0, MOST_HERTZ, times=1e6, most=_twice_the_maximum)),
            "temperature_celsius": Each(_CELSIUS),
            "fan_speed_ratio": Each(Number(0, 2, per=100)),  # NVML: it may exceed 100 %
            "clock_event_active": Each(Flag()),
            "performance_state": Number(0, 15, whole=True),
            "process_utilization": Made(ProcessUtilization),
        },
        UtilizationSample: {"timestamp": Number(1e-6, 2**32, per=1e6), "ratio": RATIO},
        Activity: {
            "interval_seconds": Number(0, MOST_SECONDS),
            "graphics_ratio": GPM_RATIO,
            "sm_ratio": GPM_RATIO,
            "sm_occupancy_ratio": GPM_RATIO,
            "dram_ratio": GPM_RATIO,
            "pipe_ratio": Each(GPM_RATIO),
            "pcie_receive_bytes": Number(0, math.inf, times=2**20, most=_moved),
            "pcie_transmit_bytes": Number(0, math.inf, times=2**20, most=_moved),
        },
        ProcessUtilization: {"pid": _PID, "sm_ratio": RATIO},
        SlowReading: {
            "energy_joules": Counter(
                0,
                1e13,
                per=1e3,
                rate=lambda where: where.board.power_limit_watts or MOST_WATTS,
            ),
            "clock_event_seconds": Each(Counter(0, MOST_SECONDS, per=1e9, rate=lambda _: 1.0)),
            "power_limit_watts": Number(1, MOST_WATTS, per=1e3),
            "temperature_margin_celsius": Number(-HOTTEST_CELSIUS, 2 * HOTTEST_CELSIUS),
            "pcie_replays": _ERRORS,
            "pcie_link_generation": _PCIE_GENERATION,
            "pcie_link_width": _PCIE_WIDTH,
            "nvlink_receive_bytes": _NVLINK_BYTES,
            "nvlink_transmit_bytes": _NVLINK_BYTES,
            "nvlink_active_links": Number(0, pynvml.NVML_NVLINK_MAX_LINKS, whole=True),
            "nvlink_errors": Each(_ERRORS),
            "ecc_errors": Each(_ERRORS),
            "remapped_rows": Each(_SMALL_COUNT),
            "row_remap_pending": Flag(),
            "row_remap_failed": Flag(),
            "row_remap_banks": Each(_SMALL_COUNT),
            "retired_pages": Each(_SMALL_COUNT),
            "retired_pages_pending": Flag(),
            "recovery_action": Listed(RECOVERY_ACTIONS, other="unknown"),
        },
        XidEvent: {
            "gpu_uuid": Text(),
            "timestamp": _UNIX_SECONDS,
            "xid": Number(1, 1023, whole=True),
        },
        GpuChanged: {"gpu_uuid": Text()},
    }
)
"""By kind of object and field. ``failures`` of a reading are ours, and have no row."""

MOST: Mapping[str, int] = MappingProxyType(
    {
        "number of GPUs": 64,
        "number of fans": 16,
        "number of NVLinks": pynvml.NVML_NVLINK_MAX_LINKS,
        "number of MIG devices": 16,  # seven until today
        "number of samples": 10_000,  # 71 on an H100
        "number of processes": 10_000,
        "number of accounted processes": 100_000,  # 4000 on an H100
        "number of GPU cores": 1_000_000,
        "mask of clock event reasons": 2**24,
        "mask of event types": 2**32 - 2,
    }
)
"""The most of each number that bounds a loop or a buffer, or is taken apart into its bits."""


def counted(what: str, raw: Any) -> int:
    """Return a number of :data:`MOST`. Raises :class:`Implausible`."""
    if not isinstance(raw, int) or not 0 <= raw <= MOST[what]:
        raise Implausible(what, raw)
    return raw


def flag(what: str, raw: Any) -> bool:
    """Return a number that is 0 or 1 as what it says. Raises :class:`Implausible`."""
    if raw not in {0, 1}:
        raise Implausible(what, raw)
    return bool(raw)
