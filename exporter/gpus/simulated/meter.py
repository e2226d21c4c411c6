"""The physics of one board: load in, and power, heat, clocks and counters out.

The state advances when it is read, in steps of 200 ms of real time, which is the period of the
driver's own utilization samples. So the state does not depend on when it is read.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from exporter.gpus.simulated.layout import instance_sm_count
from exporter.gpus.simulated.node import Node, Segment
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.workloads import NOTHING, Load, load, noise, running
from exporter.model.devices import Gpu
from exporter.model.readings import UtilizationSample

STEP_SECONDS: Final = 0.2
BUFFERED_SAMPLES: Final = 71
"""The driver keeps the samples of 14 s."""

PCIE_BYTES_PER_SECOND: Final = {1: 4.0e9, 2: 8.0e9, 3: 15.75e9, 4: 31.5e9, 5: 63.0e9}
"""The rate of 16 lanes, by generation."""

DEGRADED_LANES: Final = 4
_FINE_STEPS: Final = 4500
"""After a longer pause (15 min), what exceeds it is integrated in as many, wider steps."""
_HEAT_SECONDS: Final = 20.0
_THERMAL_FAULT_CELSIUS: Final = 45.0
_DRIVER_BOOTED_SECONDS: Final = 4000.0


@dataclass(slots=True)
class Totals:
    """Integrals over time of one device's activity, in seconds."""

    seconds: float = 0.0
    busy: float = 0.0
    sm: float = 0.0
    tensor: float = 0.0
    dram: float = 0.0
    received_bytes: float = 0.0
    tenants: dict[int, float] = field(default_factory=dict)
    """Busy seconds by the number of the tenant. They sum to ``busy``."""

    def add(self, now: Load, seconds: float, link_bytes: float) -> None:
        self.seconds += seconds
        self.busy += now.busy * seconds
        self.sm += now.sm * seconds
        self.tensor += now.tensor * seconds
        self.dram += now.dram * seconds
        self.received_bytes += now.link * link_bytes * seconds

    def add_tenants(self, asked: Mapping[int, float], busy: float, seconds: float) -> None:
        """Split busy time among the tenants by what they asked for."""
        total = sum(asked.values())
        for number, share in asked.items():
            if share:
                so_far = self.tenants.get(number, 0.0)
                self.tenants[number] = so_far + busy * seconds * share / total

    def copy(self) -> "Totals":
        return replace(self, tenants=dict(self.tenants))


@dataclass(slots=True)
class Meter:
    """GPU ``index`` of ``node``. Counters start from 0 when the GPU or the driver comes back."""

    node: Node
    index: int
    speed: float
    seed: int
    power_watts: float = 0.0
    temperature_celsius: float = 0.0
    clock_share: float = 0.0
    """A fraction of the maximum SM clock. 0 stands for the idle clocks."""
    load: Load = NOTHING
    events: frozenset[str] = frozenset()
    energy_joules: float = 0.0
    event_seconds: dict[str, float] = field(default_factory=dict)
    nvlink_bytes: float = 0.0
    pcie_replays: float = 0.0
    totals: dict[int | None, Totals] = field(default_factory=dict)
    """By GPU instance; ``None``: the whole GPU."""
    samples: deque[UtilizationSample] = field(
        default_factory=lambda: deque(maxlen=BUFFERED_SAMPLES)
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Lock it while the state is advanced and read."""
    _step: int = -1
    _gpu: Gpu | None = None

    def __post_init__(self) -> None:
        self._reset()

    def segment(self, seconds: float) -> Segment:
        """Return what is on the GPU at ``seconds`` of real time since the start."""
        return self.node.segment(self.index, seconds * self.speed)

    def advance(self, seconds: float) -> None:
        """Bring the state to ``seconds`` of real time since the start."""
        # A hair more, because 3 * 0.2 is more than 0.6.
        for step, width in _grid(self._step, math.floor(seconds / STEP_SECONDS + 1e-6)):
            self._advance(step, width * STEP_SECONDS)
            self._step = step

    def _advance(self, step: int, seconds: float) -> None:
        time = step * STEP_SECONDS * self.speed
        segment = self.node.segment(self.index, time)
        if segment.gpu is not self._gpu:
            self.totals = {}
            self._gpu = segment.gpu
        if not segment.reachable:
            self._reset()
            return
        asked = tuple(_asked(self.node, segment, time, step))
        by_instance = _loads(segment, asked)
        self.load = _board_load(segment.gpu, by_instance)
        seconds = seconds if step else 0.0
        link = self._advance_links(segment, seconds)
        for instance, now in by_instance.items():
            totals = self.totals.setdefault(instance, Totals())
            totals.add(now, seconds, link)
            if instance is None:
                by_tenant = {tenant.number: each.busy for tenant, each in asked}
                totals.add_tenants(by_tenant, now.busy, seconds)
        self._heat(segment, step, seconds)
        if not segment.gpu.mig_enabled:
            time = _DRIVER_BOOTED_SECONDS + step * STEP_SECONDS
            self.samples.append(UtilizationSample(time, round(self.load.busy, 2)))

    def _advance_links(self, segment: Segment, seconds: float) -> float:
        """Count NVLink bytes and PCIe replays; return the PCIe rate in bytes per second."""
        board = self.node.profile.board
        if any(tenant.peers for tenant in segment.tenants):
            self.nvlink_bytes += 0.25 * self.load.sm * board.nvlink_bytes_per_second * seconds
        if "pcie_degraded" not in segment.active:
            return PCIE_BYTES_PER_SECOND[board.pcie_generation]
        self.pcie_replays += 2.0 * seconds
        return PCIE_BYTES_PER_SECOND[1] * DEGRADED_LANES / 16

    def _heat(self, segment: Segment, step: int, seconds: float) -> None:
        board = self.node.profile.board
        now = self.load
        effort = 0.1 * now.busy + 0.45 * now.sm + 0.25 * now.tensor + 0.2 * now.dram
        span = board.power_limit_watts - board.power_idle_watts
        wanted = board.power_idle_watts + span * effort * board.power_gain
        hot = self.temperature_celsius >= board.temperature_threshold_celsius["slowdown"] - 4
        events = set()
        share = 1.0 if segment.tenants and now.busy else 0.0
        if not now.busy:
            events.add("gpu_idle")
        if "power_brake" in segment.active:
            events |= {"hw_slowdown", "hw_power_brake_slowdown"}
            wanted, share = board.power_idle_watts + (wanted - board.power_idle_watts) * 0.4, 0.5
        if "thermal" in segment.active:
            events.add("sw_thermal_slowdown")
            if hot:
                events |= {"hw_slowdown", "hw_thermal_slowdown"}
            wanted, share = board.power_idle_watts + (wanted - board.power_idle_watts) * 0.6, 0.6
        if wanted > board.power_limit_watts * 0.97:
            events.add("sw_power_cap")
            wanted, share = board.power_limit_watts * 0.995, share * 0.93
        jitter = noise(self.seed * 31 + self.index, step) - 0.5
        self.power_watts = round(wanted * (1 + 0.01 * jitter), 3)
        self.clock_share = share
        rise = 40.0 * (self.power_watts - board.power_idle_watts) / span
        if "thermal" in segment.active:
            rise += _THERMAL_FAULT_CELSIUS
        target = min(
            board.temperature_idle_celsius + rise,
            board.temperature_threshold_celsius["slowdown"] + 1.0,
        )
        gained = (target - self.temperature_celsius) * (1 - math.exp(-seconds / _HEAT_SECONDS))
        self.temperature_celsius += gained
        self.energy_joules += self.power_watts * seconds
        self.events = frozenset(events)
        for event in events:
            self.event_seconds[event] = self.event_seconds.get(event, 0.0) + seconds

    def _reset(self) -> None:
        """Drop what a GPU loses when it is reset."""
        self.temperature_celsius = self.node.profile.board.temperature_idle_celsius
        self.energy_joules = self.nvlink_bytes = self.pcie_replays = 0.0
        self.event_seconds = {}
        self.totals = {}
        self.samples.clear()


def _grid(done: int, until: int) -> Iterator[tuple[int, int]]:
    """Yield the steps that are due, each with the number of steps that it stands for."""
    behind = until - done - _FINE_STEPS
    width = max(1, math.ceil(behind / _FINE_STEPS))
    for step in range(done + width, done + behind + 1, width):
        yield step, width
        done = step
    for step in range(done + 1, until + 1):
        yield step, 1


def _asked(node: Node, segment: Segment, time: float, step: int) -> Iterator[tuple[Tenant, Load]]:
    """Yield the load that each tenant asks for, unless it asks for none."""
    for tenant in segment.tenants:
        age = node.age(tenant, time)
        if running(tenant.workload, age):
            asked = load(tenant.workload, age, tenant.key, step)
            if asked is not NOTHING:
                yield tenant, asked


def _loads(segment: Segment, asking: Iterable[tuple[Tenant, Load]]) -> dict[int | None, Load]:
    """Sum the loads that tenants ask for by GPU instance, up to the most an instance can give."""
    loads: dict[int | None, Load] = {None: NOTHING}
    if segment.gpu.mig_enabled:
        loads = {slice_.gpu_instance: NOTHING for slice_ in segment.gpu.leading_slices}
    for tenant, asked in asking:
        if tenant.width < 1:
            has = Load(asked.busy, *(tenant.width * value for value in asked[1:]))
        else:
            has = asked
        where = tenant.slice.gpu_instance if tenant.slice else None
        if loads[where] is not NOTHING:
            has = Load(*(min(1.0, a + b) for a, b in zip(loads[where], has, strict=True)))
        loads[where] = has
    return loads


def _board_load(gpu: Gpu, loads: dict[int | None, Load]) -> Load:
    """Return the load of the board. Under MIG it is the load of the instances, by their SMs."""
    if None in loads:
        return loads[None]
    busy, sums = 0.0, [0.0] * (len(NOTHING) - 1)
    for instance, now in loads.items():
        if instance is not None and now is not NOTHING:
            width = instance_sm_count(gpu, instance) / (gpu.sm_count or 1)
            busy = max(busy, now.busy)
            for n, value in enumerate(now[1:]):
                sums[n] += width * value
    return Load(busy, *sums)
