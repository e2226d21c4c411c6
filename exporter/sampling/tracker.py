"""What the exporter knows of one GPU: readings in, steps and a sample out. No clock, no threads."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from exporter.attribution.energy import energy_shares
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.devices import Gpu, Slice
from exporter.model.readings import (
    Activity,
    FastReading,
    FieldFailure,
    FullReading,
    Reason,
    SlowReading,
    XidEvent,
)
from exporter.model.snapshot import GpuData, GpuSample, GpuState, XidTotal
from exporter.model.steps import BusyStep, EnergyStep, Readings, Steps
from exporter.model.xids import FELL_OFF_THE_BUS
from exporter.sampling.devices import DeviceTracker
from exporter.sampling.hardware import HardwareCounters
from exporter.sampling.view import GpuView

_MOST_SLICES: Final = 256
"""How many slices of a GPU are remembered, so that their counters go on if they come back.

A GPU has fewer places and shapes of slices, and a place and shape always gives the same UUID.
"""

_FELL_SECONDS: Final = 3600.0
"""How long an XID 79 explains that a GPU is gone from the bus."""

_MOST_NUMBERS: Final = 16
"""How many earlier numbers of a GPU are remembered, for the claims that were seen under them."""

_WHOLE_GPU_REASONS: Final = (
    Reason.GPU_LOST,
    Reason.RESET_REQUIRED,
    Reason.TIMEOUT,
    Reason.NO_PERMISSION,
    Reason.IMPLAUSIBLE,
    Reason.UNKNOWN,
)
"""These count from 0, because ``increase()`` misses the event that a counter begins with."""


class GpuTracker:
    """Keeps the state and the counters of one GPU and its slices, for the life of the program.

    The tracker turns readings into *steps*: what each device added since the reading before. A
    reading that fails leaves no data, so that no old value is served. Counters stay, and go on with
    the next reading.
    """

    def __init__(self, gpu: Gpu, peak_window: float) -> None:
        self.gpu = gpu
        self.state = GpuState.OK
        self._peak_window = peak_window
        self._board = DeviceTracker(peak_window)
        # By slice, and not by the id of its GPU instance, which other shapes get later.
        self._slices: dict[Slice, DeviceTracker] = {}
        self._fast = FastReading()
        self._full: FullReading | None = None
        self._slow = SlowReading()
        self._counters = HardwareCounters()
        self._slice_busy_seconds: defaultdict[str, float] = defaultdict(float)
        """Busy seconds of each slice since the last slow reading, by UUID."""
        self._slow_at: Monotonic | None = None
        self._xids: dict[int, XidTotal] = {}
        self._failures = Counter[str](dict.fromkeys(_WHOLE_GPU_REASONS, 0))
        self._sampled_at: UnixSeconds | None = None

    @property
    def has_data(self) -> bool:
        """Whether the GPU can be read, and a full reading has been taken since it can."""
        return self.state is GpuState.OK and self._full is not None

    @property
    def identified(self) -> bool:
        """Whether the GPU has ever been read. Before that its UUID may be a stand-in."""
        return self._sampled_at is not None

    @property
    def view(self) -> GpuView:
        return GpuView(self.gpu, self._fast, self._devices())

    def numbered(self, number: int, now: Monotonic) -> None:
        """Note the driver's number for the GPU from now on: ids in claims may be such numbers."""
        numbers = self.gpu.numbers
        if not numbers or numbers[-1][1] != number:
            self.gpu = replace(self.gpu, numbers=(*numbers[-_MOST_NUMBERS:], (now, number)))

    def take(self, readings: Readings, now: Monotonic, timestamp: UnixSeconds) -> Steps:
        """Take the readings of one visit; return what they add.

        The full reading comes first, because the other readings are about the slices of the layout
        that it reports.
        """
        busy = self.full(readings.full, now) if readings.full else ()
        self.fast(readings.fast, now, timestamp)
        energy = self.slow(readings.slow, now) if readings.slow else ()
        return Steps(tuple(busy), tuple(energy))

    def fast(self, reading: FastReading, now: Monotonic, timestamp: UnixSeconds) -> None:
        """Take a fast reading, which was made at ``now`` and ``timestamp``."""
        self.state = GpuState.OK
        self._fast = reading
        self._sampled_at = timestamp
        self._count(reading.failures)
        self._board.memory(reading.memory, now)
        for slice_ in self.gpu.leading_slices:
            self._slice(slice_).memory(reading.instance_memory.get(slice_.gpu_instance), now)

    def full(self, reading: FullReading, now: Monotonic) -> Sequence[BusyStep]:
        """Take a full reading; return the step of each device whose utilization it has."""
        if reading.gpu.slices != self.gpu.slices:
            self._forget_slices(reading.gpu.slices)
        self.gpu, self._full = replace(reading.gpu, numbers=self.gpu.numbers), reading
        self._count(reading.failures)
        self._counters.add_pcie(reading.activity)
        steps = [
            self._slice_step(slice_, reading.instance_activity.get(slice_.gpu_instance), now)
            for slice_ in self.gpu.leading_slices
        ]
        steps.append(self._board_step(reading, now))
        return [step for step in steps if step is not None]

    def slow(self, reading: SlowReading, now: Monotonic) -> Sequence[EnergyStep]:
        """Take a slow reading; return the energy step of each device."""
        self._slow = reading
        self._count(reading.failures)
        joules = self._counters.follow(reading)
        steps = [] if joules is None else self._energy_steps(joules, now)
        self._slow_at = now
        self._slice_busy_seconds.clear()
        return steps

    def failed(self, reason: Reason, timestamp: UnixSeconds) -> None:
        """Note that a whole read failed: the time until the next reading counts as nothing.

        A GPU that has just fallen off the bus was not taken out on purpose.
        """
        fell = self._xids.get(FELL_OFF_THE_BUS)
        if (
            reason is Reason.GPU_REMOVED
            and fell
            and timestamp - fell.last_timestamp < _FELL_SECONDS
        ):
            reason = Reason.GPU_LOST
        states = {Reason.GPU_LOST: GpuState.LOST, Reason.GPU_REMOVED: GpuState.REMOVED}
        self._away(states.get(reason, GpuState.FAILED), reason)
        for device in (self._board, *self._slices.values()):
            device.interrupt()

    def hung(self) -> None:
        """Note that a read has not returned by its deadline.

        The driver goes on to fill its sample buffer, so a read that is only late loses no busy
        time.
        """
        self._away(GpuState.HUNG, Reason.TIMEOUT)

    def xid(self, event: XidEvent) -> None:
        """Count an XID, also while the GPU can't be read."""
        count = self._xids[event.xid].count if event.xid in self._xids else 0
        self._xids[event.xid] = XidTotal(count + 1, event.timestamp)

    def sample(self, now: Monotonic) -> GpuSample:
        return GpuSample(
            gpu=self.gpu,
            state=self.state,
            data=self._data(self._full, now) if self.has_data and self._full else None,
            xids=dict(self._xids),
            read_failures=dict(self._failures),
            last_sample_timestamp=self._sampled_at,
        )

    def _away(self, state: GpuState, reason: Reason) -> None:
        self.state = state
        if state is not GpuState.REMOVED:
            self._failures[reason] += 1
        self._fast, self._full, self._slow = FastReading(), None, SlowReading()
        self._counters.clear()

    def _data(self, full: FullReading, now: Monotonic) -> GpuData:
        return GpuData(
            fast=self._fast,
            full=full,
            slow=self._slow,
            device=self._board.totals(now),
            totals=self._counters.totals,
            slices={
                slice_.gpu_instance: self._slice(slice_).totals(now)
                for slice_ in self.gpu.leading_slices
            },
        )

    def _devices(self) -> AbstractSet[str]:
        slices = {slice_.uuid for slice_ in (*self.gpu.slices, *self._slices)}
        return slices | {self.gpu.uuid}

    def _forget_slices(self, current: Sequence[Slice]) -> None:
        """Forget the slices that have been gone for longest, if there are too many."""
        for slice_ in current:
            if slice_ in self._slices:
                self._slices[slice_] = self._slices.pop(slice_)
        for slice_ in list(self._slices)[:-_MOST_SLICES]:
            del self._slices[slice_]

    def _slice(self, slice_: Slice) -> DeviceTracker:
        return self._slices.setdefault(slice_, DeviceTracker(self._peak_window))

    def _slice_step(
        self, slice_: Slice, activity: Activity | None, now: Monotonic
    ) -> BusyStep | None:
        device = self._slice(slice_)
        if activity is None or activity.graphics_ratio is None:
            device.unknown()
            return None
        busy = device.mean(activity.graphics_ratio, activity.interval_seconds, now)
        self._slice_busy_seconds[slice_.uuid] += busy.seconds
        return BusyStep(slice_.uuid, busy)

    def _board_step(self, reading: FullReading, now: Monotonic) -> BusyStep | None:
        if reading.utilization is not None:
            busy = self._board.samples(reading.utilization, now)
        elif mean := _mean_of_slices(reading):
            busy = self._board.mean(*mean, now)
        else:
            self._board.unknown()
            return None
        return BusyStep(self.gpu.uuid, busy) if busy else None

    def _energy_steps(self, joules: float, now: Monotonic) -> list[EnergyStep]:
        elapsed = now - self._slow_at if self._slow_at is not None else 0.0
        # NVML does not report how compute instances share the activity of their GPU instance, which
        # stands under the leading slice. So each of them counts as equally active.
        busy_ratio = {
            slice_.uuid: min(1.0, self._slice_busy_seconds[leading.uuid] / elapsed)
            for leading in self.gpu.leading_slices
            for slice_ in self.gpu.slices
            if slice_.gpu_instance == leading.gpu_instance
            and leading.uuid in self._slice_busy_seconds
            and elapsed > 0
        }
        shares = energy_shares(self.gpu, busy_ratio)
        return [EnergyStep(uuid, joules * share) for uuid, share in shares.items()]

    def _count(self, failures: Sequence[FieldFailure]) -> None:
        self._failures.update(failure.reason for failure in failures)


def _mean_of_slices(reading: FullReading) -> tuple[float, float] | None:
    """Return the utilization of a MIG board and the interval that it is about, in seconds.

    NVML reports none for the board. It is the mean of the slices' activity, weighted by their SMs.
    SMs that belong to no slice count as idle. ``None``: the activity of some slice is unknown.
    """
    gpu, weighted, seconds = reading.gpu, 0.0, 0.0
    if not gpu.sm_count or not gpu.slices:
        return None
    for leading in gpu.leading_slices:
        activity = reading.instance_activity.get(leading.gpu_instance)
        if activity is None or activity.graphics_ratio is None:
            return None
        instance_sms = sum(
            slice_.sm_count or 0
            for slice_ in gpu.slices
            if slice_.gpu_instance == leading.gpu_instance
        )
        weighted += activity.graphics_ratio * instance_sms / gpu.sm_count
        seconds = max(seconds, activity.interval_seconds)
    return min(1.0, weighted), seconds
