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
    started: float
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
        start = max(since, self.started)
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

    def hold(self, allocations: Sequence[Allocation] | None, now: float) -> None:
        """Take who holds what from now on; ``None`` when nobody can tell.

        A container that comes back, after its kubelet was away say, goes on where it was.
        """
        current = {(a.container, a.device_uuid): a for a in allocations or ()}
        for key, entry in self._entries.items():
            if key not in current and entry.ended is None:
                self._account(entry, now)
                entry.ended = now
                entry.forget_gauges()
        if allocations is not None and not self._known:
            # What did not come back ended while nobody could tell.
            for key in [k for k in self._entries if k not in current]:
                del self._entries[key]
        self._known = allocations is not None
        for key, allocation in current.items():
            self._open(key, allocation, now)

    def busy(self, gpu_uuid: str, steps: Iterable[BusyStep], now: float) -> None:
        """Book the busy time that a GPU's full reading at ``now`` added, on all its devices."""
        self._unreadable.discard(gpu_uuid)
        for entry in self._entries.values():
            if entry.allocation.gpu.uuid == gpu_uuid:
                entry.utilization = None
        for step in steps:
            since = self._busy_at.get(step.device_uuid, now)
            self._busy_at[step.device_uuid] = now
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
        for entry in self._entries.values():
            if entry.allocation.gpu.uuid == gpu_uuid:
                entry.forget_gauges()

    def samples(self, now: float) -> tuple[ContainerSample, ...]:
        """Return every container that has a device, or had until a grace ago."""
        self._drop_ended(now)
        if not self._known:
            return ()
        for entry in self._entries.values():
            self._account(entry, now)
        return tuple(
            _held(entry) if entry.allocation.gpu.uuid in self._unreadable else _sample(entry, now)
            for _, entry in sorted(self._entries.items(), key=itemgetter(0))
        )

    def _open(self, key: tuple[Container, str], allocation: Allocation, now: float) -> None:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(allocation, now, active=now, accounted=now)
        elif entry.ended is not None:
            entry.started = entry.active = entry.accounted = now
            entry.ended = None
        self._account(entry, now)
        if entry.allocation.sole and not allocation.sole:
            entry.forget_gauges()
        entry.allocation = allocation
        if allocation.sole:  # a counter that begins at its first event hides that event
            if entry.busy_seconds is None and allocation.device_uuid in self._busy_at:
                entry.busy_seconds = 0.0
            if entry.energy_joules is None and allocation.device_uuid in self._energy_at:
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

    def _drop_ended(self, now: float) -> None:
        if self._known:
            for key, entry in list(self._entries.items()):
                if entry.ended is not None and now - entry.ended > self._ended_grace:
                    del self._entries[key]


def _held(entry: _Entry) -> ContainerSample:
    return ContainerSample(
        allocation=entry.allocation,
        ended=entry.ended is not None,
        allocated_seconds=entry.allocated_seconds,
    )


def _sample(entry: _Entry, now: float) -> ContainerSample:
    known = entry.utilization is not None
    return ContainerSample(
        allocation=entry.allocation,
        ended=entry.ended is not None,
        allocated_seconds=entry.allocated_seconds,
        busy_seconds=entry.busy_seconds,
        energy_joules=entry.energy_joules,
        utilization_ratio=entry.utilization,
        idle_seconds=now - entry.active if known else None,
        memory_used_bytes=entry.memory.used_bytes if entry.memory else None,
        memory_limit_bytes=entry.memory.total_bytes if entry.memory else None,
        memory_peak_bytes=entry.memory_peak,
    )
