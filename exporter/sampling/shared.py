"""Whose the processes on shared GPUs are, and what of the GPU is theirs."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from exporter.attribution.sharing import busy_shares, containers_by_pid, memory_parts
from exporter.model.claims import Allocation, Container
from exporter.model.devices import Gpu
from exporter.model.pods import PodRecord
from exporter.model.readings import FastReading, FullReading
from exporter.model.snapshot import SourceHealth
from exporter.processes.owners import ProcessOwners


class ProcessContainers(Protocol):
    """Tells in which containers processes run."""

    def known(self, holders: Collection[Container]) -> Collection[Container]:
        """Return those of which it can be told which processes are theirs."""

    def containers(
        self, pids: Iterable[int], holders: Collection[Container]
    ) -> Mapping[int, Container] | None:
        """Return those that run in one of ``holders``; ``None`` when that can't be told."""

    def health(self) -> SourceHealth: ...


class PodProcesses:
    """What the host's ``/proc`` says, in the words of the API server.

    ``pods`` gives the pods' records by namespace and name. A holder whose pod has none, as before
    the pod watch has seen it, is not known: its processes would pass for nobody's.
    """

    def __init__(
        self, owners: ProcessOwners, pods: Callable[[], Mapping[tuple[str, str], PodRecord]]
    ) -> None:
        self._owners = owners
        self._pods = pods

    def known(self, holders: Collection[Container]) -> Collection[Container]:
        pods = self._pods()
        return {holder for holder in holders if (holder.namespace, holder.pod) in pods}

    def containers(
        self, pids: Iterable[int], holders: Collection[Container]
    ) -> Mapping[int, Container] | None:
        if not self._owners.sees_host():
            return None
        pods = self._pods()
        names = pods.keys() & {(holder.namespace, holder.pod) for holder in holders}
        wanted = set(pids)
        owners = self._owners.owners(wanted)
        if owners.keys() != wanted:  # whoever's those are that can't be seen
            return None
        return containers_by_pid(owners, [pods[name] for name in names])

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
        """Return the shares that known containers have of what the whole GPU did.

        ``None`` if it can't be split.
        """
        utilization, uuid = reading.process_utilization, reading.gpu.uuid
        if utilization is None:
            return None
        containers = self._containers(uuid, (process.pid for process in utilization))
        if containers is None:
            return None
        return dict.fromkeys(self._known(uuid), 0.0) | busy_shares(utilization, containers)

    def memory_parts(self, gpu: Gpu, reading: FastReading) -> dict[str, dict[Container, int]]:
        """Return what known containers hold of each of a GPU's devices that can be split."""
        processes = reading.processes
        if processes is None:
            return {}
        containers = self._containers(gpu.uuid, {process.pid for process in processes})
        if containers is None:
            return {}
        devices = [(part.uuid, part.gpu_instance) for part in gpu.leading_slices]
        memories = [(uuid, reading.instance_memory.get(n), n) for uuid, n in devices]
        whole = None if gpu.mig_enabled else reading.memory
        found = {
            uuid: memory_parts(memory, processes, containers, instance)
            for uuid, memory, instance in [(gpu.uuid, whole, None), *memories]
            if memory is not None
        }
        known = dict.fromkeys(self._known(gpu.uuid), 0)
        return {uuid: known | parts for uuid, parts in found.items() if parts is not None}

    def owners(self, gpu_uuid: str, pids: Iterable[int]) -> Mapping[int, Container]:
        """Return the containers of processes on a shared GPU, of those that can be told.

        Also of one that has just ended, if it was there for the reading before.
        """
        return self._containers(gpu_uuid, pids) or {}

    def health(self) -> list[SourceHealth]:
        return [self._source.health()] if self._source else []

    def _known(self, gpu_uuid: str) -> Collection[Container]:
        return self._source.known(self._holders.get(gpu_uuid, ())) if self._source else ()

    def _containers(self, gpu_uuid: str, pids: Iterable[int]) -> Mapping[int, Container] | None:
        holders = self._holders.get(gpu_uuid)
        if self._source is None or holders is None:
            return None
        return self._source.containers(pids, holders)
