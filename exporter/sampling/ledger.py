"""What each container has had of each device: seconds, busy seconds, energy, peaks."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf
from operator import itemgetter

from exporter.attribution.sharing import Usage, split_energy
from exporter.model.claims import Allocation, Container
from exporter.model.readings import Memory
from exporter.model.snapshot import IDLE_RATIO, ContainerSample, Unattributed
from exporter.model.steps import BusyStep, EnergyStep

# How long after its series went an ended container may have to be told of again.
_LATE_SECONDS = 180.0


@dataclass(slots=True)
class _Entry:
    allocation: Allocation
    measured_uuid: str
    """The allocation's own; it takes a while to find."""
    since: float
    """From when on it has been held, as it is held now."""
    active: float
    """When the device was last busy; the start, until it was."""
    accounted: float
    """Up to when allocated seconds are counted."""
    ended: float | None = None
    told_until: float = inf
    allocated_seconds: float = 0.0
    busy_seconds: float | None = None
    energy_joules: float | None = None
    utilization: float | None = None
    memory_used: int | None = None
    memory_limit: int | None = None
    memory_peak: int | None = None
    utilization_peak: float | None = None
    run: str | None = None
    """The runtime's id of the container's latest run; ``None``: nobody says."""
    run_since: float = -inf
    """From when on peaks are that run's alone."""
    unmetered_busy: float = 0.0
    """Busy seconds since the device's energy was last booked."""
    unmetered_held: float = 0.0
    """Seconds since then; of a time in which n held the device, an n-th."""

    def part_of(self, since: float, until: float) -> float:
        """Return the part of the interval in which the container held the device."""
        start = max(since, self.since)
        end = until if self.ended is None else min(until, self.ended)
        return max(0.0, end - start) / (until - since) if until > since else 0.0

    def begin_peaks(self, now: float) -> None:
        self.run_since = now
        self.memory_peak, self.utilization_peak = self.memory_used, None

    def forget_gauges(self) -> None:
        self.utilization = self.memory_used = self.memory_limit = None


@dataclass(slots=True)
class _Device:
    gpu_uuid: str | None = None
    busy_at: float | None = None
    """When its last step was booked; ``None``: none since it could be read."""
    energy_at: float | None = None
    telling: bool = False
    """Whether its GPU's last full reading told its utilisation."""
    hidden: AbstractSet[Container] | None = None
    """Who of those that share it that reading left untold; ``None``: all of them."""
    unmetered_busy: float = 0.0
    """As its containers', and that of none. Busy time of which we do not know when it was is left
    out, and its energy is split like that of idle time."""
    unattributed_busy: float | None = None
    unattributed_energy: float | None = None
    unattributed_memory: int | None = None


class Ledger:
    """Books what devices did on the containers that held them meanwhile.

    What is booked on all containers of a device never exceeds what the device did: each step is
    booked by the part of its interval in which the container was the device's only holder, or,
    where the figures of single processes say whose it was, one of several. Otherwise shared devices
    get allocated seconds only. What is left of a step is unattributed, so that nothing is lost.
    """

    def __init__(self, ended_grace: float) -> None:
        self._ended_grace = ended_grace
        self._entries: dict[tuple[Container, str], _Entry] = {}
        self._devices: dict[str, _Device] = {}
        self._known = True
        self._unreadable: set[str] = set()
        self._settled = 0.0

    def hold(self, allocations: Sequence[Allocation] | None, now: float) -> None:
        """Take who holds what from now on; ``None`` when nobody can tell.

        A container that is still there when somebody can tell again goes on where it was.
        """
        self._settle(now)
        current = {(a.container, a.device_uuid): a for a in allocations or ()}
        for key, entry in self._entries.items():
            if key not in current and entry.ended is None:
                self._account(entry, now)
                entry.ended, entry.told_until = now, now + self._ended_grace
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

    def runs(self, found: Mapping[Container, str], now: float) -> None:
        """Take the ids of containers' latest runs: with a new one, peaks begin anew."""
        for (container, _), entry in self._entries.items():
            run = found.get(container, entry.run)
            if run != entry.run:
                if entry.run is not None:
                    entry.begin_peaks(now)
                entry.run = run

    def tell_again(self, container: Container, device_uuid: str, now: float) -> None:
        """Tell for a grace of a container that has ended: there is news of its end."""
        entry = self._entries.get((container, device_uuid))
        if entry is not None and entry.ended is not None:
            entry.told_until = now + self._ended_grace

    def busy(
        self,
        gpu_uuid: str,
        steps: Iterable[BusyStep],
        now: float,
        shares: Mapping[Container, float] | None = None,
    ) -> None:
        """Book the busy time that a GPU's full reading at ``now`` added, on all its devices.

        ``shares`` holds containers' shares of what the whole GPU did, by the figures of their
        processes, of each that these can tell; ``None`` where they can't be had.
        """
        self._settle(now)  # what was told until now decides on the time until now
        self._unreadable.discard(gpu_uuid)
        for device in self._devices_of(gpu_uuid):
            device.telling, device.hidden = False, None
        for entry in self._on(gpu_uuid):
            entry.utilization = None
        for step in steps:
            device = self._device(step.device_uuid, gpu_uuid)
            since = now if device.busy_at is None else device.busy_at
            device.busy_at = now
            device.telling = True
            if shares is not None and step.device_uuid == gpu_uuid:
                holders = {e.allocation.container for e in self._holders(step.device_uuid)}
                device.hidden = holders - shares.keys()
            left = step.busy.seconds
            for entry in self._told_holders(step.device_uuid):
                sole = entry.allocation.sole
                share = 1.0 if sole else (shares or {}).get(entry.allocation.container, 0.0)
                left -= self._book_busy(entry, step, share, since, now)
            if since < now:
                device.unmetered_busy += step.busy.seconds
            device.unattributed_busy = (device.unattributed_busy or 0.0) + max(0.0, left)

    def energy(self, steps: Iterable[EnergyStep], now: float) -> None:
        """Book energy that devices added up to ``now``."""
        self._settle(now)
        for step in steps:
            device = self._device(step.device_uuid)
            elapsed = now - device.energy_at if device.energy_at is not None else 0.0
            device.energy_at = now
            holders = [
                entry for (_, uuid), entry in self._entries.items() if uuid == step.device_uuid
            ]
            parts = split_energy(
                step.joules,
                elapsed,
                device.unmetered_busy,
                [Usage(entry.unmetered_busy, entry.unmetered_held) for entry in holders],
            )
            left = step.joules
            for entry, part in zip(holders, parts, strict=True):
                if entry.energy_joules is not None:
                    entry.energy_joules += part
                    left -= part
                self._begin_counters(entry)
                entry.unmetered_busy = entry.unmetered_held = 0.0
            device.unmetered_busy = 0.0
            device.unattributed_energy = (device.unattributed_energy or 0.0) + max(0.0, left)

    def memory(
        self,
        device_uuid: str,
        memory: Memory | None,
        parts: Mapping[Container, int] | None = None,
    ) -> None:
        """Take what is used of a device, and by each container that single processes can tell.

        Who shares a device has no limit of their own.
        """
        left = memory.used_bytes if memory else None
        for entry in self._holders(device_uuid):
            if entry.ended is not None:
                continue
            used = limit = None
            if memory is not None and entry.allocation.sole:
                used, limit = memory.used_bytes, memory.total_bytes
            elif memory is not None and parts is not None:
                used = parts.get(entry.allocation.container)
            entry.memory_used, entry.memory_limit = used, limit
            if used is not None:
                entry.memory_peak = max(entry.memory_peak or 0, used)
            left = None if left is None or used is None else max(0, left - used)
        self._device(device_uuid).unattributed_memory = left

    def away(self, gpu_uuid: str) -> None:
        """Note that a GPU can't be read: until it can, who holds it is all that is told.

        A busy counter that stands still would look like a container that idles.
        """
        self._unreadable.add(gpu_uuid)
        for entry in self._on(gpu_uuid):
            entry.forget_gauges()
        for device in self._devices_of(gpu_uuid):
            # What the device does meanwhile comes in one step, of which nobody can say whose it is.
            device.busy_at = device.energy_at = device.unattributed_memory = None

    def samples(self, now: float) -> tuple[ContainerSample, ...]:
        """Return every container that has a device, or had until a grace ago.

        After :meth:`tell_again`, until a grace after that.
        """
        self._drop_ended(now)
        if not self._known:
            return ()
        for entry in self._entries.values():
            self._account(entry, now)
        return tuple(
            self._sample(entry, now)
            for _, entry in sorted(self._entries.items(), key=itemgetter(0))
            if now <= entry.told_until
        )

    def unattributed(self) -> dict[str, Unattributed]:
        """Return what is booked on no container, by the uuid of each device that was ever there."""
        if not self._known:
            return {}
        return {
            uuid: self._unattributed(uuid, device)
            for uuid, device in self._devices.items()
            if device.gpu_uuid not in self._unreadable
        }

    def keep(self, uuids: Collection[str]) -> None:
        """Forget devices that are neither among these nor held by anybody who is told of."""
        held = {uuid for _, uuid in self._entries} | {
            entry.measured_uuid for entry in self._entries.values()
        }
        for uuid in self._devices.keys() - held - set(uuids):
            del self._devices[uuid]

    def _started(self, allocation: Allocation, now: float) -> _Entry:
        entry = _Entry(allocation, allocation.measured_uuid, since=now, active=now, accounted=now)
        self._device(allocation.device_uuid, allocation.gpu.uuid)
        self._begin_counters(entry)
        return entry

    def _go_on(self, entry: _Entry, allocation: Allocation, now: float, *, same: bool) -> None:
        """Take an allocation again; ``same`` if it is the one that ended, no new container."""
        self._account(entry, now)
        if entry.ended is not None:
            entry.ended, entry.since, entry.accounted = None, now, now
            entry.told_until = inf
            if not same:
                entry.active = now
                entry.begin_peaks(now)
        if entry.allocation.sole is not allocation.sole:
            entry.since = now  # no step is booked on a time in which the device was shared
            entry.forget_gauges()
        entry.allocation, entry.measured_uuid = allocation, allocation.measured_uuid
        self._begin_counters(entry)

    def _begin_counters(self, entry: _Entry) -> None:
        """Have counters stand at 0 before their first event, or nobody sees it."""
        if self._told(entry):
            if entry.busy_seconds is None and self._device(entry.measured_uuid).busy_at is not None:
                entry.busy_seconds = 0.0
            energy_at = self._device(entry.allocation.device_uuid).energy_at
            if entry.energy_joules is None and energy_at is not None:
                entry.energy_joules = 0.0

    def _book_busy(
        self, entry: _Entry, step: BusyStep, share: float, since: float, now: float
    ) -> float:
        """Return what was booked: nothing, where the counter only begins."""
        part = entry.part_of(since, now)
        if entry.ended is None:
            entry.utilization = step.busy.mean_ratio * share
            if part == 1.0 and since >= entry.run_since:  # else it may have been before
                peak = step.busy.peak_ratio if entry.allocation.sole else entry.utilization
                entry.utilization_peak = max(entry.utilization_peak or 0.0, peak)
            if entry.utilization >= IDLE_RATIO:
                entry.active = now
        if entry.busy_seconds is None:
            self._begin_counters(entry)
            return 0.0
        booked = step.busy.seconds * share * part
        entry.busy_seconds += booked
        entry.unmetered_busy += booked
        return booked

    def _settle(self, now: float) -> None:
        """Count the time for which devices have been held, for their energy when they are idle."""
        live = [(uuid, entry) for (_, uuid), entry in self._entries.items() if entry.ended is None]
        holders = Counter(uuid for uuid, _ in live)
        for uuid, entry in live:
            if self._told(entry):
                entry.unmetered_held += (now - self._settled) / holders[uuid]
        self._settled = now

    def _account(self, entry: _Entry, now: float) -> None:
        if entry.ended is None:
            entry.allocated_seconds += entry.allocation.share * (now - entry.accounted)
            entry.accounted = now

    def _told(self, entry: _Entry) -> bool:
        """Whether it can be told from others what the container does."""
        if entry.allocation.sole:
            return True
        hidden = self._device(entry.measured_uuid).hidden
        return hidden is not None and entry.allocation.container not in hidden

    def _holders(self, device_uuid: str) -> Iterator[_Entry]:
        return (e for e in self._entries.values() if e.measured_uuid == device_uuid)

    def _told_holders(self, device_uuid: str) -> Iterator[_Entry]:
        return filter(self._told, self._holders(device_uuid))

    def _on(self, gpu_uuid: str) -> list[_Entry]:
        return [e for e in self._entries.values() if e.allocation.gpu.uuid == gpu_uuid]

    def _device(self, uuid: str, gpu_uuid: str | None = None) -> _Device:
        device = self._devices.get(uuid)
        if device is None:
            device = self._devices[uuid] = _Device()
        device.gpu_uuid = gpu_uuid or device.gpu_uuid
        return device

    def _devices_of(self, gpu_uuid: str) -> list[_Device]:
        return [device for device in self._devices.values() if device.gpu_uuid == gpu_uuid]

    def _drop_ended(self, now: float) -> None:
        if self._known:
            for key, entry in list(self._entries.items()):
                if now > entry.told_until + _LATE_SECONDS:
                    del self._entries[key]

    def _unattributed(self, uuid: str, device: _Device) -> Unattributed:
        live = [e for e in self._entries.values() if e.ended is None]
        told = all(self._told(e) for e in live if e.measured_uuid == uuid)
        metered = all(self._told(e) for e in live if e.allocation.device_uuid == uuid)
        return Unattributed(
            busy_seconds=device.unattributed_busy if told and device.telling else None,
            energy_joules=device.unattributed_energy if metered else None,
            memory_bytes=device.unattributed_memory,
        )

    def _sample(self, entry: _Entry, now: float) -> ContainerSample:
        allocation, ended = entry.allocation, entry.ended is not None
        if allocation.gpu.uuid in self._unreadable:
            return ContainerSample(allocation, ended, entry.allocated_seconds)
        told = ended or self._told(entry)
        telling = ended or self._device(entry.measured_uuid).telling
        return ContainerSample(
            allocation=allocation,
            ended=ended,
            allocated_seconds=entry.allocated_seconds,
            busy_seconds=entry.busy_seconds if told and telling else None,
            energy_joules=entry.energy_joules if told else None,
            utilization_ratio=entry.utilization,
            idle_seconds=now - entry.active if entry.utilization is not None else None,
            memory_used_bytes=entry.memory_used,
            memory_limit_bytes=entry.memory_limit,
            memory_peak_bytes=entry.memory_peak,
            utilization_peak_ratio=entry.utilization_peak,
        )
