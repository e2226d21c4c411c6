"""What each container has had of each device: seconds, busy seconds, energy, peaks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter

from exporter.model.claims import Allocation, Container
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample
from exporter.sampling.tracker import BusyStep, EnergyStep

# Below this mean utilisation a device counts as idle: measurement noise, and a driver's own doing.
IDLE_RATIO = 0.01


@dataclass(slots=True)
class _Entry:
    allocation: Allocation
    since: float
    """From when on it has been held, as it is held now."""
    active: float
    """When the device was last busy; the start, until it was."""
    accounted: float
    """Up to when allocated seconds are counted."""
    ended: float | None = None
    allocated_seconds: float = 0.0
    busy_seconds: float | None = None
    energy_joules: float | None = None
    utilization: float | None = None
    memory: Memory | None = None
    memory_peak: int | None = None

    def part_of(self, since: float, until: float) -> float:
        """Return the part of the interval in which the container held the device."""
        start = max(since, self.since)
        end = until if self.ended is None else min(until, self.ended)
        return max(0.0, end - start) / (until - since) if until > since else 0.0

    def forget_gauges(self) -> None:
        self.utilization = self.memory = None


class Ledger:
    """Books what devices did on the containers that held them meanwhile.

    What is booked on all containers of a device never exceeds what the device did: each step is
    booked by the part of its interval in which the container was the device's only holder.
    Shared devices get allocated seconds only.
    """

    def __init__(self, ended_grace: float) -> None:
        self._ended_grace = ended_grace
        self._entries: dict[tuple[Container, str], _Entry] = {}
        self._known = True
        self._unreadable: set[str] = set()
        # When a device's last step was booked; also tells which devices have such steps at all.
        self._busy_at: dict[str, float] = {}
        self._energy_at: dict[str, float] = {}
        # Devices whose GPU's last full reading told their utilization.
        self._telling: set[str] = set()

    def hold(self, allocations: Sequence[Allocation] | None, now: float) -> None:
        """Take who holds what from now on; ``None`` when nobody can tell.

        A container that is still there when somebody can tell again goes on where it was.
        """
        current = {(a.container, a.device_uuid): a for a in allocations or ()}
        for key, entry in self._entries.items():
            if key not in current and entry.ended is None:
                self._account(entry, now)
                entry.ended = now
                entry.forget_gauges()
        unknown_until_now, self._known = not self._known, allocations is not None
        if unknown_until_now and self._known:
            # What did not come back ended while nobody could tell.
            self._entries = {key: entry for key, entry in self._entries.items() if key in current}
        for key, allocation in current.items():
            if key in self._entries:
                self._go_on(self._entries[key], allocation, now, same=unknown_until_now)
            else:
                self._entries[key] = self._started(allocation, now)

    def busy(self, gpu_uuid: str, steps: Iterable[BusyStep], now: float) -> None:
        """Book the busy time that a GPU's full reading at ``now`` added, on all its devices."""
        self._unreadable.discard(gpu_uuid)
        for entry in self._on(gpu_uuid):
            entry.utilization = None
            self._telling.discard(entry.allocation.device_uuid)
        for step in steps:
            since = self._busy_at.get(step.device_uuid, now)
            self._busy_at[step.device_uuid] = now
            self._telling.add(step.device_uuid)
            for entry in self._sole_holders(step.device_uuid):
                part = step.seconds * entry.part_of(since, now)
                entry.busy_seconds = (entry.busy_seconds or 0.0) + part
                if entry.ended is None:
                    entry.utilization = step.mean_ratio
                    if step.mean_ratio >= IDLE_RATIO:
                        entry.active = now

    def energy(self, steps: Iterable[EnergyStep], now: float) -> None:
        """Book energy that devices added up to ``now``."""
        for step in steps:
            since = self._energy_at.get(step.device_uuid, now)
            self._energy_at[step.device_uuid] = now
            for entry in self._sole_holders(step.device_uuid):
                part = step.joules * entry.part_of(since, now)
                entry.energy_joules = (entry.energy_joules or 0.0) + part

    def memory(self, device_uuid: str, memory: Memory | None) -> None:
        for entry in self._sole_holders(device_uuid):
            if entry.ended is None:
                entry.memory = memory
                if memory is not None:
                    entry.memory_peak = max(entry.memory_peak or 0, memory.used_bytes)

    def away(self, gpu_uuid: str) -> None:
        """Note that a GPU can't be read: until it can, who holds it is all that is told.

        A busy counter that stands still would look like a container that idles.
        """
        self._unreadable.add(gpu_uuid)
        for entry in self._on(gpu_uuid):
            entry.forget_gauges()
            # What the device does meanwhile comes in one step, of which nobody can say whose it is.
            self._busy_at.pop(entry.allocation.device_uuid, None)
            self._energy_at.pop(entry.allocation.device_uuid, None)

    def samples(self, now: float) -> tuple[ContainerSample, ...]:
        """Return every container that has a device, or had until a grace ago."""
        self._drop_ended(now)
        if not self._known:
            return ()
        for entry in self._entries.values():
            self._account(entry, now)
        return tuple(
            self._sample(entry, now)
            for _, entry in sorted(self._entries.items(), key=itemgetter(0))
        )

    def _started(self, allocation: Allocation, now: float) -> _Entry:
        entry = _Entry(allocation, since=now, active=now, accounted=now)
        self._begin_counters(entry)
        return entry

    def _go_on(self, entry: _Entry, allocation: Allocation, now: float, *, same: bool) -> None:
        """Take an allocation again; ``same`` if it is the one that ended, no new container."""
        self._account(entry, now)
        if entry.ended is not None:
            entry.ended, entry.since, entry.accounted = None, now, now
            if not same:
                entry.active = now
        if entry.allocation.sole is not allocation.sole:
            entry.since = now  # no step is booked on a time in which the device was shared
            entry.forget_gauges()
        entry.allocation = allocation
        self._begin_counters(entry)

    def _begin_counters(self, entry: _Entry) -> None:
        """Have counters stand at 0 before their first event, or nobody sees it."""
        if entry.allocation.sole:
            uuid = entry.allocation.device_uuid
            if entry.busy_seconds is None and uuid in self._busy_at:
                entry.busy_seconds = 0.0
            if entry.energy_joules is None and uuid in self._energy_at:
                entry.energy_joules = 0.0

    def _account(self, entry: _Entry, now: float) -> None:
        if entry.ended is None:
            entry.allocated_seconds += entry.allocation.share * (now - entry.accounted)
            entry.accounted = now

    def _sole_holders(self, device_uuid: str) -> list[_Entry]:
        return [
            entry
            for (_, uuid), entry in self._entries.items()
            if uuid == device_uuid and entry.allocation.sole
        ]

    def _on(self, gpu_uuid: str) -> list[_Entry]:
        return [e for e in self._entries.values() if e.allocation.gpu.uuid == gpu_uuid]

    def _drop_ended(self, now: float) -> None:
        if self._known:
            for key, entry in list(self._entries.items()):
                if entry.ended is not None and now - entry.ended > self._ended_grace:
                    del self._entries[key]

    def _sample(self, entry: _Entry, now: float) -> ContainerSample:
        allocation, ended = entry.allocation, entry.ended is not None
        if allocation.gpu.uuid in self._unreadable:
            return ContainerSample(allocation, ended, entry.allocated_seconds)
        known = entry.utilization is not None
        telling = ended or allocation.device_uuid in self._telling
        return ContainerSample(
            allocation=allocation,
            ended=ended,
            allocated_seconds=entry.allocated_seconds,
            busy_seconds=entry.busy_seconds if telling else None,
            energy_joules=entry.energy_joules,
            utilization_ratio=entry.utilization,
            idle_seconds=now - entry.active if known else None,
            memory_used_bytes=entry.memory.used_bytes if entry.memory else None,
            memory_limit_bytes=entry.memory.total_bytes if entry.memory else None,
            memory_peak_bytes=entry.memory_peak,
        )
