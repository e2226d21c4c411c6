"""What containers do on a GPU, as pure functions of a key and the time since they started.

The key comes from seed, pod and device; the same key and time always give the same answer, so
nothing here depends on when or how often somebody looks.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple


class WorkloadKind(StrEnum):
    STEADY = "steady"
    """As busy as it says; of a range such as ``20%-80%``, another value every ``period``."""
    TRAINING = "training"
    """Busy throughout, with a dip for a checkpoint every ``period``."""
    INFERENCE = "inference"
    """Bursts of requests, another load every ``period``."""
    NOTEBOOK = "notebook"
    """Computes for ``period``, then holds its memory and does nothing."""
    LEAK = "leak"
    """Memory climbs for ``period`` until the device is full, then CUDA runs out of memory."""
    HOST_LEAK = "host_leak"
    """Takes ever more of the host's memory; after ``period`` the kernel kills it for that."""
    PREALLOCATING = "preallocating"
    """A server that takes nearly all memory at once, then serves bursts."""
    IDLE = "idle"
    """Holds a context and never computes."""
    LOW_SM = "low_sm"
    """A kernel always runs, but on a few SMs: at a utilization of 100 % the GPU is nearly idle."""


@dataclass(frozen=True, slots=True)
class Workload:
    kind: WorkloadKind
    memory: float
    """Share of the device's memory that it takes."""
    utilization: float
    """Share of time a kernel runs when it is busy; of a range, its upper end."""
    period: float
    """Seconds; what for, the kind says."""
    backoff: float | None = None
    """Seconds from running out of memory to the restart; ``None``: it is not restarted."""
    silent: bool = False
    """Whether it runs out of memory without a word."""
    memory_bytes: int | None = None
    """What it takes of the device's memory where that is said in bytes; then it counts, and not
    ``memory``."""
    utilization_least: float | None = None
    """The lower end of a range of utilization."""

    @property
    def leaks(self) -> bool:
        """Whether its container ends by itself, after ``period``."""
        return self.kind in {WorkloadKind.LEAK, WorkloadKind.HOST_LEAK}


DEFAULTS: Final[Mapping[WorkloadKind, Workload]] = MappingProxyType(
    {
        workload.kind: workload
        for workload in (
            Workload(WorkloadKind.STEADY, memory=0.5, utilization=0.5, period=10.0),
            Workload(WorkloadKind.TRAINING, memory=0.7, utilization=0.97, period=60.0),
            Workload(WorkloadKind.INFERENCE, memory=0.4, utilization=0.9, period=8.0),
            Workload(WorkloadKind.NOTEBOOK, memory=0.2, utilization=0.6, period=30.0),
            Workload(WorkloadKind.LEAK, memory=0.1, utilization=0.6, period=60.0),
            Workload(WorkloadKind.HOST_LEAK, memory=0.1, utilization=0.3, period=60.0),
            Workload(WorkloadKind.PREALLOCATING, memory=0.96, utilization=0.8, period=10.0),
            Workload(WorkloadKind.IDLE, memory=0.01, utilization=0.0, period=1.0),
            Workload(WorkloadKind.LOW_SM, memory=0.05, utilization=1.0, period=1.0),
        )
    }
)


class Load(NamedTuple):
    """What a workload asks of its device at one moment, each a ratio of the device."""

    busy: float = 0.0
    """Share of time in which any kernel runs."""
    sm: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    link: float = 0.0
    """Of the PCIe link, towards the GPU."""


NOTHING: Final = Load()

_CHECKPOINT_SECONDS: Final = 6.0
_START_SECONDS: Final = 4.0
_FULL_SHARE: Final = 0.9
"""The share of a leak's period after which the device is full."""


def key_of(*names: object) -> int:
    """Return the key of something by its names."""
    return zlib.crc32("/".join(map(str, names)).encode())


def noise(key: int, moment: int) -> float:
    """Return a number in [0, 1) that looks random and depends on key and moment alone."""
    mixed = (key ^ (moment * 0x9E3779B1)) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 16)) / 0x100000000


def restarts(workload: Workload, age: float) -> int:
    """Return how often the container has ended and been started again by ``age``."""
    return 0 if workload.backoff is None else int(age // life(workload))


def running(workload: Workload, age: float) -> bool:
    """Return whether the container's process is there, and not waiting for its restart."""
    return workload.backoff is None or age % life(workload) < workload.period


def life(workload: Workload) -> float:
    """Return the seconds from one start of a container that leaks to the next."""
    return workload.period + (workload.backoff or 0.0)


def memory_ratio(workload: Workload, age: float, device_bytes: int) -> float:
    """Return the share of the device's memory that the container's process allocates."""
    base = workload.memory
    if workload.memory_bytes is not None:
        base = min(1.0, workload.memory_bytes / device_bytes)
    match workload.kind:
        case WorkloadKind.LEAK:
            climbed = min(1.0, _age_of_run(workload, age) / (_FULL_SHARE * workload.period))
            return base + (1 - base) * climbed
        case WorkloadKind.TRAINING:
            return base * min(1.0, 0.2 + 0.8 * age / _START_SECONDS)
        case _:
            return base


def _age_of_run(workload: Workload, age: float) -> float:
    """Return the time since the last restart; who is not restarted here stays as it is."""
    return age if workload.backoff is None else age % life(workload)


def load(workload: Workload, age: float, key: int, moment: int) -> Load:
    """Return the load at ``age``; ``moment`` numbers the sample, for its noise."""
    return _LOADS[workload.kind](workload, age, key, noise(key, moment) - 0.5)


def _steady(workload: Workload, age: float, key: int, jitter: float) -> Load:
    least = workload.utilization_least
    if least is None:
        busy = workload.utilization * (1 + 0.06 * jitter)
    else:
        chosen = noise(key, 7919 * int(age // workload.period))
        busy = least + (workload.utilization - least) * chosen
    if busy <= 0:
        return NOTHING
    busy = min(1.0, busy)
    return Load(busy, 0.7 * busy, 0.4 * busy, 0.5 * busy, 0.04 * busy)


def _training(workload: Workload, age: float, _key: int, jitter: float) -> Load:
    if age < _START_SECONDS:
        return Load(busy=0.1 * workload.utilization, sm=0.02, dram=0.05, link=0.3)
    if age % workload.period > workload.period - _CHECKPOINT_SECONDS:
        return Load(busy=0.04, sm=0.01, dram=0.03, link=0.12)
    busy = min(1.0, workload.utilization + 0.06 * jitter)
    return Load(busy, 0.84 * busy, 0.62 * busy, 0.48 * busy, 0.06)


def _serving(workload: Workload, age: float, key: int, jitter: float) -> Load:
    demand = noise(key, 7919 * int(age // workload.period))
    busy = workload.utilization * (demand * 1.3 - 0.2) + 0.1 * jitter * demand
    if busy <= 0:
        return NOTHING
    busy = min(1.0, busy)
    return Load(busy, 0.55 * busy, 0.25 * busy, 0.7 * busy, 0.02 * busy)


def _notebook(workload: Workload, age: float, _key: int, jitter: float) -> Load:
    if age > workload.period:
        return NOTHING
    busy = workload.utilization * (0.8 + 0.4 * jitter)
    return Load(busy, 0.4 * busy, 0.1 * busy, 0.3 * busy, 0.05 * busy)


def _leak(workload: Workload, _age: float, _key: int, jitter: float) -> Load:
    busy = workload.utilization * (0.9 + 0.2 * jitter)
    return Load(busy, 0.6 * busy, 0.3 * busy, 0.4 * busy, 0.04)


def _idle(_workload: Workload, _age: float, _key: int, _jitter: float) -> Load:
    return NOTHING


def _low_sm(workload: Workload, _age: float, _key: int, jitter: float) -> Load:
    return Load(workload.utilization, 0.012, 0.0, 0.01 + 0.002 * jitter, 0.001)


_LOADS: Final[Mapping[WorkloadKind, Callable[[Workload, float, int, float], Load]]] = (
    MappingProxyType(
        {
            WorkloadKind.STEADY: _steady,
            WorkloadKind.TRAINING: _training,
            WorkloadKind.INFERENCE: _serving,
            WorkloadKind.NOTEBOOK: _notebook,
            WorkloadKind.LEAK: _leak,
            WorkloadKind.HOST_LEAK: _leak,
            WorkloadKind.PREALLOCATING: _serving,
            WorkloadKind.IDLE: _idle,
            WorkloadKind.LOW_SM: _low_sm,
        }
    )
)
