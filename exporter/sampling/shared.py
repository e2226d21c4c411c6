"""Whose the processes on shared GPUs are, and what of the GPU is theirs."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from exporter.attribution.sharing import (
    busy_shares,
    containers_by_pid,
    memory_parts,
    told_holders,
)
from exporter.model.claims import Allocation, Container, PodName
from exporter.model.devices import Gpu
from exporter.model.pods import PodRecord
from exporter.model.readings import FastReading, FullReading
from exporter.model.snapshot import SourceHealth
from exporter.processes.owners import ProcessOwners


class Told(NamedTuple):
    """What can be told of some processes."""

    containers: Mapping[int, Container]
    """Of those that run in a known container."""
    holders: Collection[Container]
    """Those of whose processes none is left out."""


class ProcessContainers(Protocol):
    """Tells in which containers processes run."""

    def tell(self, pids: Iterable[int], holders: Collection[Container]) -> Told | None:
        """Tell of processes on a device that ``holders`` share; ``None`` when that can't be."""

    def health(self) -> SourceHealth: ...


class PodProcesses:
    """What the host's ``/proc`` says, in the words of the API server.

    ``pods`` gives the pods' records by namespace and name. A holder whose pod has none, as before
    the pod watch has seen it, is not known: its processes would pass for nobody's.
    """

    def __init__(
        self, owners: ProcessOwners, pods: Callable[[], Mapping[PodName, PodRecord]]
    ) -> None:
        self._owners = owners
        self._pods = pods

    def tell(self, pids: Iterable[int], holders: Collection[Container]) -> Told | None:
        if not self._owners.sees_host():
            return None
        pods = self._pods()
        names = pods.keys() & {holder.pod_name for holder in holders}
        wanted = set(pids)
        owners = self._owners.owners(wanted)
        if owners.keys() != wanted:  # whoever's those are that can't be seen
            return None
        found = containers_by_pid(owners, [pods[name] for name in names])
        return Told(found, told_holders(owners, found, holders, pods))

    def health(self) -> SourceHealth:
        return self._owners.health()


class SharedGpus:
    """Splits the readings of GPUs that several containers share.

    ``source`` is ``None`` where nothing is known of processes: then nothing is split.
    """

    def __init__(self, source: ProcessContainers | None) -> None:
        self._source = source
        self._holders: dict[str, set[Container]] = {}

    def hold(self, allocations: Iterable[Allocation]) -> None:
        """Take who holds what from now on."""
        holders: defaultdict[str, set[Container]] = defaultdict(set)
        shared = set()
        for allocation in allocations:
            holders[allocation.gpu.uuid].add(allocation.container)
            if not allocation.sole:
                shared.add(allocation.gpu.uuid)
        self._holders = {uuid: holders[uuid] for uuid in shared}

    def splits(self, gpu_uuid: str) -> bool:
        """Whether a GPU's full reading is to tell of its processes."""
        return self._source is not None and gpu_uuid in self._holders

    def busy_shares(self, reading: FullReading) -> dict[Container, float] | None:
        """Return the shares that holders have of what the whole GPU did, if theirs can be told.

        ``None`` if it can't be split.
        """
        utilization, uuid = reading.process_utilization, reading.gpu.uuid
        if utilization is None:
            return None
        told = self._tell(uuid, (process.pid for process in utilization))
        if told is None:
            return None
        shares = busy_shares(utilization, told.containers)
        return {holder: shares.get(holder, 0.0) for holder in told.holders}

    def memory_parts(self, gpu: Gpu, reading: FastReading) -> dict[str, dict[Container, int]]:
        """Return what holders, if it can be told, hold of each of a GPU's devices."""
        processes = reading.processes
        if processes is None:
            return {}
        told = self._tell(gpu.uuid, {process.pid for process in processes})
        if told is None:
            return {}
        devices = [(part.uuid, part.gpu_instance) for part in gpu.leading_slices]
        memories = [(uuid, reading.instance_memory.get(n), n) for uuid, n in devices]
        whole = None if gpu.mig_enabled else reading.memory
        found = {
            uuid: memory_parts(memory, processes, told.containers, instance)
            for uuid, memory, instance in [(gpu.uuid, whole, None), *memories]
            if memory is not None
        }
        return {
            uuid: {holder: parts.get(holder, 0) for holder in told.holders}
            for uuid, parts in found.items()
            if parts is not None
        }

    def owners(self, gpu_uuid: str, pids: Iterable[int]) -> Mapping[int, Container]:
        """Return the containers of processes on a shared GPU, of those that can be told.

        Also of one that has just ended, if it was there for the reading before.
        """
        told = self._tell(gpu_uuid, pids)
        return told.containers if told else {}

    def health(self) -> list[SourceHealth]:
        return [self._source.health()] if self._source else []

    def _tell(self, gpu_uuid: str, pids: Iterable[int]) -> Told | None:
        holders = self._holders.get(gpu_uuid)
        if self._source is None or holders is None:
            return None
        return self._source.tell(pids, holders)
