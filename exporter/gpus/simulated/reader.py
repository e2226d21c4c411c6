"""Reads one simulated GPU, which supports and refuses what a real one would."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from exporter.gpus import GpuError
from exporter.gpus.simulated.meter import DEGRADED_LANES, Meter, Totals
from exporter.gpus.simulated.node import Segment
from exporter.gpus.simulated.processes import memory, pid_of, processes
from exporter.gpus.simulated.scenario import NVLINK_ERRORS
from exporter.gpus.simulated.workloads import running
from exporter.model.devices import Gpu
from exporter.model.readings import (
    Activity,
    Event,
    FastReading,
    FullReading,
    ProcessUtilization,
    Reason,
    SlowReading,
    UtilizationSample,
)

CLOCK_EVENTS: Final = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "display_clock_setting",
)
COUNTED_CLOCK_EVENTS: Final = (
    "sw_power_cap",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
)
"""The events for which the driver counts time."""

_HANG_POLL_SECONDS: Final = 0.02
_SHORTEST_ACTIVITY_SECONDS: Final = 0.1
"""The least time that the GPU performance monitor needs between two of its samples."""
_CLOCK_STEP_HERTZ: Final = 15e6


class SimulatedReader:
    """A handle of GPU ``meter.index``, valid until ``closed`` is set. Implements ``Reader``.

    Every read blocks while the GPU hangs, as a call into a wedged driver does. ``ears`` waits for
    the GPU's events.
    """

    returned = 0
    """There are no calls into a driver."""

    def __init__(
        self,
        meter: Meter,
        seconds: Callable[[], float],
        closed: threading.Event,
        ears: Callable[[float], Sequence[Event]],
    ) -> None:
        self._meter = meter
        self._node = meter.node
        self._board = meter.node.profile.board
        self._seconds = seconds
        self._closed = closed
        self._ears = ears
        gpu = meter.segment(seconds()).gpu
        self._gpu = Gpu(uuid=gpu.uuid, index=gpu.index, model="")
        self._last_sample = 0.0
        self._marks: dict[int | None, tuple[Totals, Totals]] = {}
        """By GPU instance: the running totals, and a copy of them from the last full read."""
        self._tenants_mark: tuple[Totals, Totals] | None = None
        """The same for the whole GPU, from the last read of its processes."""

    @property
    def gpu(self) -> Gpu:
        return self._gpu

    @property
    def index(self) -> int:
        return self._meter.index

    def find(self) -> str:
        return self._gpu.uuid

    def known_as(self, uuid: str, index: int) -> None:
        """Do nothing: the node's GPUs keep their numbers, whichever is lost."""

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        return self._ears(timeout_seconds)

    def read_fast(self) -> FastReading:
        seconds, segment = self._enter()
        listed = processes(self._node, self._meter.index, segment, seconds * self._meter.speed)
        board, instances = memory(self._node, segment, listed)
        return FastReading(memory=board, instance_memory=instances, processes=listed)

    def read_full(self, *, processes: bool = False) -> FullReading:
        seconds, segment = self._enter()
        with self._meter.lock:
            self._meter.advance(seconds)
            full = self._full(segment)
            if processes and not segment.gpu.mig_enabled:
                shares = self._process_utilization(segment, seconds * self._meter.speed)
                return replace(full, process_utilization=shares)
            return full

    def read_slow(self) -> SlowReading:
        seconds, segment = self._enter()
        with self._meter.lock:
            self._meter.advance(seconds)
            return self._slow(segment, seconds * self._meter.speed)

    def _enter(self) -> tuple[float, Segment]:
        """Wait until the GPU answers; return the time then, and what is on the GPU."""
        segment = self._meter.segment(seconds := self._seconds())
        # The clock may be a test's, so there is nothing to wait for: look again and again.
        unwoken = threading.Event()
        while "gpu_hung" in segment.active and segment.reachable:
            unwoken.wait(_HANG_POLL_SECONDS)
            segment = self._meter.segment(seconds := self._seconds())
        if "driver_unloaded" in segment.active or self._closed.is_set():
            raise GpuError(Reason.DRIVER_NOT_LOADED, "the simulated driver is not loaded")
        if "gpu_lost" in segment.active:
            raise GpuError(Reason.GPU_LOST, f"GPU {self._meter.index} has fallen off the bus")
        self._gpu = segment.gpu
        return seconds, segment

    def _full(self, segment: Segment) -> FullReading:
        meter, board, mig = self._meter, self._board, bool(segment.gpu.mig_enabled)
        activity = self._activity() if board.gpm else {}
        temperature = {"gpu": float(round(meter.temperature_celsius))}
        if board.memory_temperature:
            temperature["memory"] = float(round(meter.temperature_celsius + 8 * meter.load.dram))
        return FullReading(
            gpu=segment.gpu,
            utilization=None if mig else self._new_samples(meter.samples),
            memory_busy_ratio=None if mig else round(meter.load.dram, 2),
            engine_utilization_ratio={} if mig else dict.fromkeys(board.engines, 0.0),
            activity=activity.get(None),
            instance_activity={i: a for i, a in activity.items() if i is not None},
            power_draw_watts=meter.power_watts,
            clock_hertz=self._clocks(),
            temperature_celsius=temperature,
            clock_event_active={event: event in meter.events for event in CLOCK_EVENTS},
            performance_state=0 if meter.clock_share else board.idle_performance_state,
        )

    def _slow(self, segment: Segment, time: float) -> SlowReading:
        meter, board = self._meter, self._board
        degraded = "pcie_degraded" in segment.active
        limit = board.temperature_threshold_celsius["gpu_max"]
        actions = (f.action for f in segment.faults if f.kind == "recovery_action")
        slow = SlowReading(
            energy_joules=round(meter.energy_joules, 3),
            clock_event_seconds={
                event: round(meter.event_seconds.get(event, 0.0), 6)
                for event in COUNTED_CLOCK_EVENTS
            },
            power_limit_watts=board.power_limit_watts,
            temperature_margin_celsius=(
                float(round(limit - meter.temperature_celsius)) if board.gpm else None
            ),
            pcie_replays=int(meter.pcie_replays),
            pcie_link_generation=1 if degraded else board.pcie_generation,
            pcie_link_width=DEGRADED_LANES if degraded else 16,
            recovery_action=next(actions, "none") if board.gpm else None,
        )
        if board.nvlinks and not segment.gpu.mig_enabled:
            slow = self._with_nvlink(slow, time)
        return self._with_memory_errors(slow, segment, time)

    def _with_nvlink(self, slow: SlowReading, time: float) -> SlowReading:
        moved = int(self._meter.nvlink_bytes)
        errors = dict.fromkeys(NVLINK_ERRORS, 0)
        return replace(
            slow,
            nvlink_receive_bytes=moved,
            nvlink_transmit_bytes=moved,
            nvlink_active_links=self._board.nvlinks,
            nvlink_errors=self._sums("nvlink_errors", time, errors, "error"),
        )

    def _with_memory_errors(self, slow: SlowReading, segment: Segment, time: float) -> SlowReading:
        """Add ECC errors, and what became of bad memory: Ampere and newer remap rows."""
        ecc = {
            (severity, location): number
            for severity in ("corrected", "uncorrected")
            for location, number in self._sums(
                f"ecc_{severity}", time, {"dram": 0, "sram": 0}, "location"
            ).items()
        }
        rows = self._sums("row_remap", time, {"correctable": 0, "uncorrectable": 0}, "cause")
        pending, failed = "row_remap" in segment.active, "row_remap_failed" in segment.active
        banks = self._board.remap_banks
        if banks is None:
            pages = {"single_bit": rows["correctable"], "double_bit": rows["uncorrectable"]}
            return replace(slow, ecc_errors=ecc, retired_pages=pages, retired_pages_pending=pending)
        return replace(
            slow,
            ecc_errors=ecc,
            remapped_rows=rows,
            row_remap_pending=pending,
            row_remap_failed=failed,
            row_remap_banks=_banks(banks, sum(rows.values()), failed=failed),
        )

    def _new_samples(self, samples: deque[UtilizationSample]) -> tuple[UtilizationSample, ...]:
        new = []
        for sample in reversed(samples):
            if sample.timestamp <= self._last_sample:
                break
            new.append(sample)
        if new:
            self._last_sample = new[0].timestamp
        return tuple(reversed(new))

    def _activity(self) -> dict[int | None, Activity]:
        found = {}
        for instance, totals in self._meter.totals.items():
            source, before = self._marks.get(instance, (None, totals))
            if source is totals:
                if totals.seconds - before.seconds < _SHORTEST_ACTIVITY_SECONDS:
                    continue
                found[instance] = _mean(before, totals, board=instance is None)
            self._marks[instance] = (totals, totals.copy())
        return found

    def _process_utilization(self, segment: Segment, time: float) -> tuple[ProcessUtilization, ...]:
        """Return what each process did since the last read; at the first read, since its start."""
        totals = self._meter.totals.get(None)
        if totals is None:
            return ()
        source, before = self._tenants_mark or (None, Totals())
        if source is not totals:
            before = Totals()
        self._tenants_mark = totals, totals.copy()
        seconds = totals.seconds - before.seconds
        runs, _ = self._node.cycle(time)
        found = []
        for tenant in segment.tenants:
            age = self._node.age(tenant, time)
            busy = totals.tenants.get(tenant.number, 0.0) - before.tenants.get(tenant.number, 0.0)
            if busy > 0 and running(tenant.workload, age):
                pid = pid_of(self._node, tenant, runs, age)
                found.append(ProcessUtilization(pid, min(1.0, busy / seconds)))
        return tuple(found)

    def _clocks(self) -> Mapping[str, float]:
        share = self._meter.clock_share
        if not share:
            return {name: mhz * 1e6 for name, mhz in self._board.clock_idle_mhz.items()}
        clocks = {
            name: mhz * 1e6 * share // _CLOCK_STEP_HERTZ * _CLOCK_STEP_HERTZ
            for name, mhz in self._board.clock_max_mhz.items()
        }
        return clocks | {"memory": self._board.clock_max_mhz["memory"] * 1e6}

    def _sums(self, kind: str, time: float, zeros: dict[str, int], by: str) -> dict[str, int]:
        """Sum what faults of ``kind`` have counted, by one of their parameters."""
        sums = dict(zeros)
        for fault, number in self._node.counted(self._meter.index, kind, time):
            sums[getattr(fault, by)] += number
        return sums


def _mean(before: Totals, after: Totals, *, board: bool) -> Activity:
    seconds = after.seconds - before.seconds
    sm = min(1.0, (after.sm - before.sm) / seconds)
    received = after.received_bytes - before.received_bytes
    return Activity(
        interval_seconds=seconds,
        graphics_ratio=min(1.0, (after.busy - before.busy) / seconds),
        sm_ratio=sm,
        sm_occupancy_ratio=0.35 * sm,
        dram_ratio=min(1.0, (after.dram - before.dram) / seconds),
        pipe_ratio={
            "tensor": min(1.0, (after.tensor - before.tensor) / seconds),
            "fp16": 0.06 * sm,
            "fp32": 0.18 * sm,
            "fp64": 0.0,
            "integer": 0.11 * sm,
        },
        pcie_receive_bytes=received if board else None,
        pcie_transmit_bytes=0.3 * received if board else None,
    )


def _banks(total: int, rows: int, *, failed: bool) -> Mapping[str, int]:
    """Return how many of all banks have how many spare rows left."""
    touched = min(rows, total)
    spent = int(failed)
    left = {"high": max(0, touched - spent), "partial": 0, "low": 0, "none": spent}
    return {"max": total - sum(left.values()), **left}
