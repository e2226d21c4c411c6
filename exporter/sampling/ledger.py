"""What each container has had of each device: seconds, busy seconds, energy, memory, peaks."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from typing import Final

from exporter.model.claims import Allocation, AllocationKey, Container
from exporter.model.clocks import Monotonic
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample, Unattributed
from exporter.model.steps import BusyStep, EnergyStep
from exporter.sampling.booking import book_busy, book_energy, book_memory
from exporter.sampling.entries import Device, Entries, Entry, Gauges

_LATE_SECONDS: Final = 180.0
"""How long an entry is kept after it was last served, because news of the end may come late."""


class Ledger:
    """Keeps an entry for each container on each device, and books on it what the device did.

    - An entry begins with the allocation and ends with it. An entry that has ended is served for
      ``ended_grace`` seconds more, so that a last scrape sees it. Then it is kept for another three
      minutes, in which :meth:`serve_again` may ask for it.
    - :mod:`exporter.sampling.booking` describes how steps are booked. A container that shares a
      device and can't be measured has only allocated seconds.
    - While the allocations are unknown, the ledger serves nothing. While a GPU can't be read, the
      ledger serves only which containers have it, and for how long.
    """

    def __init__(self, ended_grace: float) -> None:
        self._ended_grace = ended_grace
        self._entries = Entries()
        self._known = True
        """Whether the present allocations are known."""
        self._unreadable: set[str] = set()

    def set_allocations(self, allocations: Sequence[Allocation] | None, now: Monotonic) -> None:
        """Take the present allocations; ``None``: they are unknown.

        If a container still has its device when the allocations are known again, its entry goes on.
        """
        self._entries.settle(now)
        current = {allocation.key: allocation for allocation in allocations or ()}
        unknown_until_now, self._known = not self._known, allocations is not None
        self._end_all_but(current, now, unseen=unknown_until_now and self._known)
        entries = self._entries.by_key
        for key, allocation in current.items():
            if key in entries:
                entries[key].go_on(allocation, now, same_container=unknown_until_now)
            else:
                entries[key] = Entry.begin(allocation, now)
                self._entries.device(allocation.device_uuid, allocation.gpu.uuid)
            self._entries.begin_counters(entries[key])

    def set_runs(self, runs: Mapping[Container, str], now: Monotonic) -> None:
        """Take the ids of containers' latest runs. With a new run, peaks begin anew."""
        for entry in self._entries:
            if run := runs.get(entry.allocation.container):
                entry.begin_run(run, now)

    def serve_again(self, key: AllocationKey, now: Monotonic) -> None:
        """Serve an ended container for a further grace, because there is news of its end."""
        entry = self._entries.by_key.get(key)
        if entry is not None and entry.ended is not None:
            entry.served_until = Monotonic(now + self._ended_grace)

    def busy(
        self,
        gpu_uuid: str,
        steps: Iterable[BusyStep],
        now: Monotonic,
        shares: Mapping[Container, float] | None = None,
    ) -> None:
        """Book the busy time of a full reading, as ``book_busy`` describes it."""
        self._entries.settle(now)
        self._unreadable.discard(gpu_uuid)
        book_busy(self._entries, gpu_uuid, steps, now, shares)

    def energy(self, steps: Iterable[EnergyStep], now: Monotonic) -> None:
        """Book the energy that devices took up to ``now``."""
        self._entries.settle(now)
        book_energy(self._entries, steps, now)

    def memory(
        self,
        device_uuid: str,
        memory: Memory | None,
        by_container: Mapping[Container, int] | None = None,
    ) -> None:
        """Take the memory in use, as ``book_memory`` describes it."""
        book_memory(self._entries, device_uuid, memory, by_container)

    def away(self, gpu_uuid: str) -> None:
        """Note that a GPU can't be read. Its counters are not served until it can be read again.

        A busy counter that stands still would look like an idle container.
        """
        self._unreadable.add(gpu_uuid)
        for entry in self._entries.on_gpu(gpu_uuid):
            entry.gauges = Gauges()
        for device in self._entries.devices_of(gpu_uuid):
            device.interrupt()

    def samples(self, now: Monotonic) -> tuple[ContainerSample, ...]:
        """Return a sample of each entry that is served."""
        self._forget_ended(now)
        if not self._known:
            return ()
        for entry in self._entries:
            entry.account(now)
        return tuple(
            self._sample(entry, now)
            for _, entry in sorted(self._entries.by_key.items(), key=itemgetter(0))
            if now <= entry.served_until
        )

    def unattributed(self) -> dict[str, Unattributed]:
        """Return what was booked on no container, by the UUID of each device that can be read.

        A value is left out while it may include the work of a container that can't be measured.
        """
        if not self._known:
            return {}
        unmeasured = [
            entry
            for entry in self._entries
            if entry.ended is None and not self._entries.is_measured(entry)
        ]
        busy_unknown = {entry.measured_uuid for entry in unmeasured}
        energy_unknown = {entry.allocation.device_uuid for entry in unmeasured}
        return {
            uuid: _unattributed(
                device, busy=uuid not in busy_unknown, energy=uuid not in energy_unknown
            )
            for uuid, device in self._entries.devices.items()
            if device.gpu_uuid not in self._unreadable
        }

    def forget_devices(self, present: AbstractSet[str]) -> None:
        """Drop the devices that are not ``present`` and have no entry."""
        self._entries.forget_devices(present)

    def _end_all_but(
        self, current: Mapping[AllocationKey, Allocation], now: Monotonic, *, unseen: bool
    ) -> None:
        """End the entries whose allocations are gone.

        ``unseen``: the allocations were unknown until now. So the time at which an entry ended is
        unknown as well, and the entry is dropped.
        """
        entries = self._entries.by_key
        for key in [key for key in entries if key not in current]:
            if unseen:
                del entries[key]
            elif entries[key].ended is None:
                entries[key].end(now, self._ended_grace)

    def _forget_ended(self, now: Monotonic) -> None:
        if self._known:
            entries = self._entries.by_key
            for key, entry in list(entries.items()):
                if now > entry.served_until + _LATE_SECONDS:
                    del entries[key]

    def _sample(self, entry: Entry, now: Monotonic) -> ContainerSample:
        allocation, ended = entry.allocation, entry.ended is not None
        if allocation.gpu.uuid in self._unreadable:
            return ContainerSample(allocation, ended, entry.allocated_seconds)
        measured = ended or self._entries.is_measured(entry)
        has_busy = ended or self._entries.device(entry.measured_uuid).has_utilization
        gauges, peaks = entry.gauges, entry.peaks
        return ContainerSample(
            allocation=allocation,
            ended=ended,
            allocated_seconds=entry.allocated_seconds,
            busy_seconds=entry.busy_seconds if measured and has_busy else None,
            energy_joules=entry.energy_joules if measured else None,
            utilization_ratio=gauges.utilization,
            idle_seconds=now - entry.active if gauges.utilization is not None else None,
            memory_used_bytes=gauges.memory_used,
            memory_limit_bytes=gauges.memory_limit,
            memory_peak_bytes=peaks.memory,
            utilization_peak_ratio=peaks.utilization,
        )


def _unattributed(device: Device, *, busy: bool, energy: bool) -> Unattributed:
    """Return the unattributed values. ``busy`` and ``energy`` say whether these are known."""
    return Unattributed(
        busy_seconds=device.unattributed_busy if busy and device.has_utilization else None,
        energy_joules=device.unattributed_energy if energy else None,
        memory_bytes=device.unattributed_memory,
    )
