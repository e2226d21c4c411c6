"""Reads one simulated GPU, with the driver's own manners: what it supports, and how it fails."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from exporter.gpus import GpuError
from exporter.gpus.simulated.meter import DEGRADED_LANES, Meter, Totals
from exporter.gpus.simulated.node import Segment
from exporter.gpus.simulated.processes import memory, pid_of, processes
from exporter.gpus.simulated.scenario import NVLINK_ERRORS
from exporter.gpus.simulated.workloads import running
from exporter.model.devices import Gpu
from exporter.model.readings import (
    Activity,
    FastReading,
    FullReading,
    ProcessUtilization,
    Reason,
    SlowReading,
    UtilizationSample,
)

CLOCK_EVENTS = (
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
COUNTED_CLOCK_EVENTS = (
    "sw_power_cap",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
)
"""Those for which the driver counts time."""

_HANG_POLL_SECONDS = 0.02
_SHORTEST_ACTIVITY_SECONDS = 0.1
"""The GPU performance monitor needs as much between two of its samples."""
_CLOCK_STEP_HERTZ = 15e6


class SimulatedReader:
    """A handle of GPU ``meter.index``, valid until ``closed`` is set. Implements ``Reader``.

    Every read blocks while the GPU hangs, as a call into a wedged driver does.
    """

    def __init__(self, meter: Meter, seconds: Callable[[], float], closed: threading.Event) -> None:
        self._meter = meter
        self._node = meter.node
        self._board = meter.node.profile.board
        self._seconds = seconds
        self._closed = closed
        gpu = meter.segment(seconds()).gpu
        self._gpu = Gpu(uuid=gpu.uuid, index=gpu.index, model="")
        self._last_sample = 0.0
        self._marks: dict[int | None, tuple[Totals, Totals]] = {}
        """By GPU instance: the running totals, and a copy from the last full read."""
        self._tenants_mark: tuple[Totals, Totals] | None = None
        """The same of the GPU, from the last read of its processes."""

    @property
    def gpu(self) -> Gpu:
        return self._gpu

    def read_fast(self) -> FastReading:
        seconds, segment = self._enter()
        held = processes(self._node, self._meter.index, segment, seconds * self._meter.speed)
        board, instances = memory(self._node, segment, held)
        return FastReading(memory=board, instance_memory=instances, processes=held)

    def read_full(self, *, processes: bool = False) -> FullReading:
        seconds, segment = self._enter()
        with self._meter.lock:
            self._meter.advance(seconds)
            full = self._full(segment)
            if processes and not segment.gpu.mig_enabled:
                told = self._process_utilization(segment, seconds * self._meter.speed)
                return replace(full, process_utilization=told)
            return full

    def read_slow(self) -> SlowReading:
        seconds, segment = self._enter()
        with self._meter.lock:
            self._meter.advance(seconds)
            return self._slow(segment, seconds * self._meter.speed)

    def _enter(self) -> tuple[float, Segment]:
        """Wait until the GPU answers; return the time then, and what is on the GPU."""
        segment = self._meter.segment(seconds := self._seconds())
        # Nothing tells when the clock has gone on, so look again and again.
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
        rows = self._sums("row_remap", time, {"correctable": 0, "uncorrectable": 0}, "cause")
        links = board.nvlinks if not segment.gpu.mig_enabled else 0
        remaps = board.remap_banks is not None
        pending, failed = "row_remap" in segment.active, "row_remap_failed" in segment.active
        limit = board.temperature_threshold_celsius["gpu_max"]
        actions = (f.action for f in segment.faults if f.kind == "recovery_action")
        errors = dict.fromkeys(NVLINK_ERRORS, 0)
        return SlowReading(
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
            nvlink_receive_bytes=int(meter.nvlink_bytes) if links else None,
            nvlink_transmit_bytes=int(meter.nvlink_bytes) if links else None,
            nvlink_active_links=links or None,
            nvlink_errors=self._sums("nvlink_errors", time, errors, "error") if links else {},
            ecc_errors={
                (severity, location): number
                for severity in ("corrected", "uncorrected")
                for location, number in self._sums(
                    f"ecc_{severity}", time, {"dram": 0, "sram": 0}, "location"
                ).items()
            },
            remapped_rows=rows if remaps else {},
            row_remap_pending=pending if remaps else None,
            row_remap_failed=failed if remaps else None,
            row_remap_banks=_banks(board.remap_banks, sum(rows.values()), failed=failed),
            retired_pages={}
            if remaps
            else {"single_bit": rows["correctable"], "double_bit": rows["uncorrectable"]},
            retired_pages_pending=None if remaps else pending,
            recovery_action=next(actions, "none") if board.gpm else None,
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
        """Return what each process did since the last read, or, at first, since it began."""
        totals = self._meter.totals.get(None)
        if totals is None:
            return ()
        source, before = self._tenants_mark or (None, Totals())
        if source is not totals:
            before = Totals()
        self._tenants_mark = totals, totals.copy()
        seconds = totals.seconds - before.seconds
        runs, _ = self._node.cycle(time)
        told = []
        for tenant in segment.tenants:
            age = self._node.age(tenant, time)
            busy = totals.tenants.get(tenant.number, 0.0) - before.tenants.get(tenant.number, 0.0)
            if busy > 0 and running(tenant.workload, age):
                pid = pid_of(self._node, tenant, runs, age)
                told.append(ProcessUtilization(pid, min(1.0, busy / seconds)))
        return tuple(told)

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


def _banks(total: int | None, rows: int, *, failed: bool) -> Mapping[str, int]:
    if total is None:
        return {}
    touched = min(rows, total)
    spent = int(failed)
    left = {"high": max(0, touched - spent), "partial": 0, "low": 0, "none": spent}
    return {"max": total - sum(left.values()), **left}
