"""What is known of one GPU: readings in, a sample out. No clock, no threads, no hardware."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from exporter.attribution.energy import energy_shares
from exporter.model.devices import Gpu, Slice
from exporter.model.readings import (
    Activity,
    FastReading,
    FieldFailure,
    FullReading,
    Memory,
    ProcessType,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import GpuData, GpuSample, GpuState, GpuTotals, XidTotal
from exporter.model.steps import BusyStep, EnergyStep
from exporter.sampling.counters import SteadyCounter
from exporter.sampling.devices import DeviceTracker

K = TypeVar("K")

# Counters of a slice go on when it is there again, unless so many others were there meanwhile. A
# GPU has fewer places and shapes of slices, and each of these always has the same UUID.
_MOST_SLICES = 256

# Counted from 0, for `increase()` does not see the event that a counter begins with.
_WHOLE_GPU = (
    Reason.GPU_LOST,
    Reason.RESET_REQUIRED,
    Reason.TIMEOUT,
    Reason.NO_PERMISSION,
    Reason.IMPLAUSIBLE,
    Reason.UNKNOWN,
)


class GpuTracker:
    """Keeps one GPU's state and counters, by its uuid, for as long as the program runs."""

    def __init__(self, gpu: Gpu, peak_window: float) -> None:
        self.gpu = gpu
        self.state = GpuState.OK
        self._peak_window = peak_window
        self._board = DeviceTracker(peak_window)
        # By slice and not by GPU instance: the ids are used again for other shapes.
        self._slices: dict[Slice, DeviceTracker] = {}
        self._fast = FastReading()
        self._full: FullReading | None = None
        self._slow = SlowReading()
        self._totals = GpuTotals()
        self._counters: dict[tuple[str, object], SteadyCounter] = {}
        self._pcie_bytes = {"receive": 0.0, "transmit": 0.0}
        self._slice_busy_seconds: defaultdict[str, float] = defaultdict(float)
        self._slow_at: float | None = None
        self._xids: dict[int, XidTotal] = {}
        self._failures = Counter[str](dict.fromkeys(_WHOLE_GPU, 0))
        self._sampled_at: float | None = None

    @property
    def ok(self) -> bool:
        """Whether there is data: the state is good and a full reading has been taken since."""
        return self.state is GpuState.OK and self._full is not None

    @property
    def identified(self) -> bool:
        """Whether the GPU has ever been read, so that its uuid is its own."""
        return self._sampled_at is not None

    @property
    def last_fast(self) -> FastReading:
        """Memory, and the processes that hold it; empty while the GPU can't be read."""
        return self._fast

    @property
    def runs_mps(self) -> bool:
        return any(p.type is ProcessType.MPS for p in self._fast.processes or ())

    def fast(self, reading: FastReading, now: float, timestamp: float) -> None:
        """Take a reading made at ``now`` (monotonic) and ``timestamp`` (Unix) seconds."""
        self.state = GpuState.OK
        self._fast = reading
        self._sampled_at = timestamp
        self._count(reading.failures)
        self._board.memory(reading.memory, now)
        for part in self.gpu.leading_slices:
            self._slice(part).memory(reading.instance_memory.get(part.gpu_instance), now)

    def full(self, reading: FullReading, now: float) -> Sequence[BusyStep]:
        """Take a reading; return what it adds to the busy time of each device that tells."""
        if reading.gpu.slices != self.gpu.slices:
            self._forget_slices(reading.gpu.slices)
        self.gpu, self._full = reading.gpu, reading
        self._count(reading.failures)
        self._add_pcie(reading.activity)
        steps = [
            self._slice_step(part, reading.instance_activity.get(part.gpu_instance), now)
            for part in self.gpu.leading_slices
        ]
        steps.append(self._board_step(reading, now))
        return [step for step in steps if step is not None]

    def slow(self, reading: SlowReading, now: float) -> Sequence[EnergyStep]:
        """Take a reading; return what it adds to the energy of each device."""
        self._slow = reading
        self._count(reading.failures)
        self._totals = replace(
            self._totals,
            energy_joules=self._follow("energy", reading.energy_joules),
            clock_event_seconds=self._follow_all("clock", reading.clock_event_seconds),
            pcie_replays=self._follow("replays", reading.pcie_replays),
            nvlink_receive_bytes=self._follow("nvlink_rx", reading.nvlink_receive_bytes),
            nvlink_transmit_bytes=self._follow("nvlink_tx", reading.nvlink_transmit_bytes),
            nvlink_errors=self._follow_all("nvlink_errors", reading.nvlink_errors),
            ecc_errors=self._follow_all("ecc", reading.ecc_errors),
        )
        steps = self._energy_steps(now) if reading.energy_joules is not None else []
        self._slow_at = now
        self._slice_busy_seconds.clear()
        return steps

    def failed(self, reason: Reason) -> None:
        """Note that a whole read failed: there is no data, and none of the time until the next."""
        self._away(GpuState.LOST if reason is Reason.GPU_LOST else GpuState.FAILED, reason)
        for device in (self._board, *self._slices.values()):
            device.interrupt()

    def hung(self) -> None:
        """Note that a read has not returned by its deadline: there is no data.

        The driver's sample buffer goes on meanwhile, so that a read which is only late loses none
        of the busy time.
        """
        self._away(GpuState.HUNG, Reason.TIMEOUT)

    def memory_by_device(self) -> Iterator[tuple[str, Memory | None]]:
        """Yield the memory of each device that has its own: the whole GPU, or its GPU instances."""
        if not self.gpu.mig_enabled:
            yield self.gpu.uuid, self._fast.memory
        for part in self.gpu.leading_slices:
            yield part.uuid, self._fast.instance_memory.get(part.gpu_instance)

    @property
    def devices(self) -> Iterator[str]:
        """The uuids of all devices whose counters are kept."""
        yield self.gpu.uuid
        yield from (part.uuid for part in {**dict.fromkeys(self.gpu.slices), **self._slices})

    def xid(self, event: XidEvent) -> None:
        """Count an XID; also while the GPU is away."""
        count = self._xids[event.xid].count if event.xid in self._xids else 0
        self._xids[event.xid] = XidTotal(count + 1, event.timestamp)

    def sample(self, now: float) -> GpuSample:
        return GpuSample(
            gpu=self.gpu,
            state=self.state,
            data=self._data(self._full, now) if self.ok and self._full else None,
            xids=dict(self._xids),
            read_failures=dict(self._failures),
            last_sample_timestamp=self._sampled_at,
        )

    def _away(self, state: GpuState, reason: Reason) -> None:
        self.state = state
        self._failures[reason] += 1
        self._fast, self._full, self._slow = FastReading(), None, SlowReading()
        self._totals = GpuTotals()

    def _data(self, full: FullReading, now: float) -> GpuData:
        return GpuData(
            fast=self._fast,
            full=full,
            slow=self._slow,
            device=self._board.totals(now),
            totals=self._totals,
            slices={
                part.gpu_instance: self._slice(part).totals(now) for part in self.gpu.leading_slices
            },
        )

    def _forget_slices(self, current: Sequence[Slice]) -> None:
        """Forget those that have been gone for longest."""
        for part in current:
            if part in self._slices:
                self._slices[part] = self._slices.pop(part)
        for part in list(self._slices)[:-_MOST_SLICES]:
            del self._slices[part]

    def _slice(self, part: Slice) -> DeviceTracker:
        return self._slices.setdefault(part, DeviceTracker(self._peak_window))

    def _slice_step(self, part: Slice, activity: Activity | None, now: float) -> BusyStep | None:
        device = self._slice(part)
        if activity is None or activity.graphics_ratio is None:
            device.unknown()
            return None
        busy = device.mean(activity.graphics_ratio, activity.interval_seconds, now)
        self._slice_busy_seconds[part.uuid] += busy.seconds
        return BusyStep(part.uuid, busy)

    def _board_step(self, reading: FullReading, now: float) -> BusyStep | None:
        if reading.utilization is not None:
            busy = self._board.samples(reading.utilization, now)
        elif mean := _mean_of_slices(reading):
            busy = self._board.mean(*mean, now)
        else:
            self._board.unknown()
            return None
        return BusyStep(self.gpu.uuid, busy) if busy else None

    def _energy_steps(self, now: float) -> list[EnergyStep]:
        joules = self._counters["energy", None].added
        elapsed = now - self._slow_at if self._slow_at is not None else 0.0
        # Nobody tells how compute instances share their GPU instance's activity: by size.
        busy_ratio = {
            part.uuid: min(1.0, self._slice_busy_seconds[leading.uuid] / elapsed)
            for leading in self.gpu.leading_slices
            for part in self.gpu.slices
            if part.gpu_instance == leading.gpu_instance
            and leading.uuid in self._slice_busy_seconds
            and elapsed > 0
        }
        shares = energy_shares(self.gpu, busy_ratio)
        return [EnergyStep(uuid, joules * share) for uuid, share in shares.items()]

    def _add_pcie(self, activity: Activity | None) -> None:
        moved = {
            "receive": activity.pcie_receive_bytes if activity else None,
            "transmit": activity.pcie_transmit_bytes if activity else None,
        }
        for direction, moved_bytes in moved.items():
            self._pcie_bytes[direction] += moved_bytes or 0.0
        self._totals = replace(
            self._totals,
            pcie_receive_bytes=None if moved["receive"] is None else self._pcie_bytes["receive"],
            pcie_transmit_bytes=None if moved["transmit"] is None else self._pcie_bytes["transmit"],
        )

    def _follow(self, field: str, raw: float | None, key: object = None) -> float | None:
        if raw is None:
            return None
        return self._counters.setdefault((field, key), SteadyCounter()).update(raw)

    def _follow_all(self, field: str, raw: Mapping[K, float]) -> dict[K, float]:
        followed = {key: self._follow(field, value, key) for key, value in raw.items()}
        return {key: total for key, total in followed.items() if total is not None}

    def _count(self, failures: Sequence[FieldFailure]) -> None:
        self._failures.update(failure.reason for failure in failures)


def _mean_of_slices(reading: FullReading) -> tuple[float, float] | None:
    """Return a MIG board's utilisation and its interval: the slices' mean weighted by SMs.

    NVML tells none for the parent. SMs that belong to no slice count as idle.
    """
    gpu, weighted, seconds = reading.gpu, 0.0, 0.0
    if not gpu.sm_count or not gpu.slices:
        return None
    for part in gpu.leading_slices:
        activity = reading.instance_activity.get(part.gpu_instance)
        if activity is None or activity.graphics_ratio is None:
            return None
        instance_sms = sum(
            s.sm_count or 0 for s in gpu.slices if s.gpu_instance == part.gpu_instance
        )
        weighted += activity.graphics_ratio * instance_sms / gpu.sm_count
        seconds = max(seconds, activity.interval_seconds)
    return min(1.0, weighted), seconds
