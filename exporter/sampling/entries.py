"""The entries of the ledger, one per allocation, and what the ledger keeps of each device."""

from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from math import inf
from typing import Final

from exporter.model.claims import Allocation, AllocationKey, Container
from exporter.model.clocks import Monotonic
from exporter.model.snapshot import IDLE_RATIO
from exporter.model.steps import Busy

_ALWAYS: Final = Monotonic(inf)
_SINCE_EVER: Final = Monotonic(-inf)


@dataclass(slots=True)
class Gauges:
    """What a container uses now, by the last readings. ``None``: unknown."""

    utilization: float | None = None
    memory_used: int | None = None
    memory_limit: int | None = None


@dataclass(slots=True)
class Peaks:
    """The highest values of a container's present run."""

    since: Monotonic = _SINCE_EVER
    """When the exporter learned of the run. Steps that began earlier may be of the run before."""
    utilization: float | None = None
    memory: int | None = None


@dataclass(slots=True)
class Unmetered:
    """A container's seconds on a device since the energy of the device was last booked."""

    busy: float = 0.0
    allocated: float = 0.0
    """While the device is allocated to n containers, each of them gets an nth of the time."""


@dataclass(slots=True)
class Entry:
    """One container on one device: its counters, gauges and peaks."""

    allocation: Allocation
    measured_uuid: str
    """A copy of ``allocation.measured_uuid``, which is slow to compute."""
    since: Monotonic
    """Steps are booked only on the time from here on.

    It is the start of the allocation. If the device was shared for a while, or no longer is, it is
    the time of that change.
    """
    active: Monotonic
    """When the container last kept the device busy. It begins with the start of the entry."""
    accounted: Monotonic
    """``allocated_seconds`` counts up to this time."""
    ended: Monotonic | None = None
    """When the device was released; ``None``: it is still allocated."""
    served_until: Monotonic = _ALWAYS
    allocated_seconds: float = 0.0
    busy_seconds: float | None = None
    energy_joules: float | None = None
    run: str | None = None
    """The runtime's id of the container's latest known run."""
    gauges: Gauges = field(default_factory=Gauges)
    peaks: Peaks = field(default_factory=Peaks)
    unmetered: Unmetered = field(default_factory=Unmetered)

    @classmethod
    def begin(cls, allocation: Allocation, now: Monotonic) -> "Entry":
        return cls(allocation, allocation.measured_uuid, since=now, active=now, accounted=now)

    def account(self, now: Monotonic) -> None:
        """Count the allocated seconds up to ``now``."""
        if self.ended is None:
            self.allocated_seconds += self.allocation.share * (now - self.accounted)
            self.accounted = now

    def end(self, now: Monotonic, grace: float) -> None:
        """Note that the device was released. The entry is served for ``grace`` seconds more."""
        self.account(now)
        self.ended, self.served_until = now, Monotonic(now + grace)
        self.gauges = Gauges()

    def go_on(self, allocation: Allocation, now: Monotonic, *, same_container: bool) -> None:
        """Continue the entry with an allocation, which may be new or may be shared differently.

        If the entry had ended, ``same_container`` says whether the container had the device all the
        time, unknown to the exporter. If not, it is a new container of the same name, which begins
        new peaks.
        """
        self.account(now)
        if self.ended is not None:
            self.ended, self.served_until = None, _ALWAYS
            self.since = self.accounted = now
            if not same_container:
                self.active = now
                self.begin_peaks(now)
        if self.allocation.sole is not allocation.sole:
            self.since = now  # a step that spans the change is not booked on the time before it
            self.gauges = Gauges()
        self.allocation, self.measured_uuid = allocation, allocation.measured_uuid

    def begin_run(self, run: str, now: Monotonic) -> None:
        """Take the id of the container's latest run. A new run begins new peaks."""
        if self.run is not None and run != self.run:
            self.begin_peaks(now)
        self.run = run

    def begin_peaks(self, now: Monotonic) -> None:
        self.peaks = Peaks(since=now, memory=self.gauges.memory_used)

    def use(self, busy: Busy, share: float, since: Monotonic, now: Monotonic) -> None:
        """Take the utilization of the device from ``since`` to ``now``.

        ``share`` is the container's share of it.
        """
        if self.ended is not None:
            return
        utilization = self.gauges.utilization = busy.mean_ratio * share
        if self._fraction(since, now) == 1.0 and since >= self.peaks.since:
            peak = busy.peak_ratio if self.allocation.sole else utilization
            self.peaks.utilization = max(self.peaks.utilization or 0.0, peak)
        if utilization >= IDLE_RATIO:
            self.active = now

    def add_busy(self, seconds: float, since: Monotonic, now: Monotonic) -> float:
        """Book the busy seconds of an interval, as far as the interval belongs to the entry.

        Return the seconds that were booked. They are 0 while the counter has not started.
        """
        if self.busy_seconds is None:
            return 0.0
        booked = seconds * self._fraction(since, now)
        self.busy_seconds += booked
        self.unmetered.busy += booked
        return booked

    def add_energy(self, joules: float) -> float:
        """Book energy; return the joules that were booked: 0 while the counter has not started."""
        self.unmetered = Unmetered()
        if self.energy_joules is None:
            return 0.0
        self.energy_joules += joules
        return joules

    def set_memory(self, used: int | None, limit: int | None) -> None:
        self.gauges.memory_used, self.gauges.memory_limit = used, limit
        if used is not None:
            self.peaks.memory = max(self.peaks.memory or 0, used)

    def _fraction(self, since: Monotonic, until: Monotonic) -> float:
        """Return the fraction of an interval that steps of the entry are booked on."""
        start = max(since, self.since)
        end = until if self.ended is None else min(until, self.ended)
        return max(0.0, end - start) / (until - since) if until > since else 0.0


@dataclass(slots=True)
class Device:
    """What the ledger knows about a device, beside the entries of the device's containers."""

    gpu_uuid: str | None = None
    busy_at: Monotonic | None = None
    """When the last busy step was booked; ``None``: none since the device became readable."""
    energy_at: Monotonic | None = None
    """When the last energy step was booked; ``None``: none since the device became readable."""
    has_utilization: bool = False
    """Whether the GPU's last full reading had the device's utilization."""
    unmeasured_holders: AbstractSet[Container] | None = None
    """The containers on the shared device that the last full reading could not measure.

    ``None``: the last full reading could measure no container.
    """
    unmetered_busy: float = 0.0
    """The busy seconds of the whole device since its energy was last booked.

    The first step after an interruption is left out, because its interval is unknown. The energy of
    that time is split like the energy of idle time.
    """
    unattributed_busy: float | None = None
    """Busy seconds that were booked on no container."""
    unattributed_energy: float | None = None
    """Joules that were booked on no container."""
    unattributed_memory: int | None = None
    """Bytes that are in use by no container."""

    def begin_busy_step(self, now: Monotonic) -> Monotonic:
        """Return the time at which the step that ends ``now`` began."""
        since = now if self.busy_at is None else self.busy_at
        self.busy_at, self.has_utilization = now, True
        return since

    def begin_energy_step(self, now: Monotonic) -> float:
        """Return the length in seconds of the step that ends ``now``."""
        elapsed = 0.0 if self.energy_at is None else now - self.energy_at
        self.energy_at = now
        return elapsed

    def interrupt(self) -> None:
        """Note that the device can't be read.

        The work until it can be read again will arrive as one step, which is booked on nobody.
        """
        self.busy_at = self.energy_at = self.unattributed_memory = None


class Entries:
    """All entries by their keys, and all devices by their UUIDs.

    A container is *measured* on a device if the exporter knows what the container does there. That
    is so if the container is alone on the device, or if the driver's figures of single processes
    could be attributed to it.
    """

    def __init__(self) -> None:
        self.by_key: dict[AllocationKey, Entry] = {}
        self.devices: dict[str, Device] = {}
        self._settled = Monotonic(0.0)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.by_key.values())

    def device(self, uuid: str, gpu_uuid: str | None = None) -> Device:
        """Return a device. It is created when it is first asked for."""
        device = self.devices.get(uuid)
        if device is None:
            device = self.devices[uuid] = Device()
        device.gpu_uuid = gpu_uuid or device.gpu_uuid
        return device

    def devices_of(self, gpu_uuid: str) -> list[Device]:
        """Return the GPU itself and its slices, as far as they are known."""
        return [device for device in self.devices.values() if device.gpu_uuid == gpu_uuid]

    def on_gpu(self, gpu_uuid: str) -> list[Entry]:
        """Return the entries on a GPU and on its slices."""
        return [entry for entry in self if entry.allocation.gpu.uuid == gpu_uuid]

    def measured_on(self, device_uuid: str) -> list[Entry]:
        """Return the entries on which the busy time and the memory of the device are booked."""
        return [entry for entry in self if entry.measured_uuid == device_uuid]

    def allocated_on(self, device_uuid: str) -> list[Entry]:
        """Return the entries on which the energy of the device is booked."""
        return [entry for key, entry in self.by_key.items() if key.device_uuid == device_uuid]

    def is_measured(self, entry: Entry) -> bool:
        if entry.allocation.sole:
            return True
        unmeasured = self.device(entry.measured_uuid).unmeasured_holders
        return unmeasured is not None and entry.allocation.container not in unmeasured

    def begin_counters(self, entry: Entry) -> None:
        """Start the counters of an entry that can be counted from now on.

        A counter has to exist at 0 before its first event, or ``increase()`` misses the event.
        """
        if not self.is_measured(entry):
            return
        if entry.busy_seconds is None and self.device(entry.measured_uuid).busy_at is not None:
            entry.busy_seconds = 0.0
        energy_at = self.device(entry.allocation.device_uuid).energy_at
        if entry.energy_joules is None and energy_at is not None:
            entry.energy_joules = 0.0

    def settle(self, now: Monotonic) -> None:
        """Add the time since the last call to the unmetered allocated seconds of each entry.

        Call it before the allocations change, and before a reading changes who is measured.
        """
        live = [
            (key.device_uuid, entry) for key, entry in self.by_key.items() if entry.ended is None
        ]
        holders = Counter(uuid for uuid, _ in live)
        for uuid, entry in live:
            if self.is_measured(entry):
                entry.unmetered.allocated += (now - self._settled) / holders[uuid]
        self._settled = now

    def forget_devices(self, present: AbstractSet[str]) -> None:
        """Drop the devices that are not ``present`` and have no entry."""
        mentioned = {key.device_uuid for key in self.by_key}
        mentioned |= {entry.measured_uuid for entry in self}
        for uuid in self.devices.keys() - mentioned - present:
            del self.devices[uuid]
