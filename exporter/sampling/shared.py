"""Finds the containers of the processes on shared GPUs, and splits readings among them."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from exporter.attribution.sharing import (
    busy_shares,
    containers_by_pid,
    fully_attributed,
    memory_by_container,
)
from exporter.model.claims import Allocation, Container, PodName
from exporter.model.devices import Gpu
from exporter.model.pods import PodRecord
from exporter.model.readings import FastReading, FullReading, Memory
from exporter.model.snapshot import SourceHealth
from exporter.processes.owners import ProcessOwners


class Attribution(NamedTuple):
    """The processes on a device, attributed to the device's holders."""

    containers: Mapping[int, Container]
    """The holder of each process that runs in a known container, by pid."""
    holders: Collection[Container]
    """The holders whose processes are all in ``containers``. Only these can be measured."""


class ProcessContainers(Protocol):
    """Finds the containers in which processes run."""

    def attribute(self, pids: Iterable[int], holders: Collection[Container]) -> Attribution | None:
        """Attribute the processes on a device to its holders.

        ``None``: no process can be attributed, or it is unknown whose some process is.
        """

    def health(self) -> SourceHealth: ...


class PodProcesses:
    """Joins what the host's ``/proc`` says about processes with the pods of the API server.

    ``pods`` returns the node's pods by namespace and name.
    """

    def __init__(
        self, owners: ProcessOwners, pods: Callable[[], Mapping[PodName, PodRecord]]
    ) -> None:
        self._owners = owners
        self._pods = pods

    def attribute(self, pids: Iterable[int], holders: Collection[Container]) -> Attribution | None:
        if not self._owners.sees_host():
            return None
        pods = self._pods()
        names = pods.keys() & {holder.pod_name for holder in holders}
        wanted = set(pids)
        owners = self._owners.owners(wanted)
        if owners.keys() != wanted:  # a process that can't be looked up may be any holder's
            return None
        found = containers_by_pid(owners, [pods[name] for name in names])
        return Attribution(found, fully_attributed(owners, found, holders, pods))

    def health(self) -> SourceHealth:
        return self._owners.health()


class SharedGpus:
    """Splits the readings of GPUs that are allocated to several containers.

    ``source`` is ``None`` where the exporter can't look up processes. Then nothing is split.
    """

    def __init__(self, source: ProcessContainers | None) -> None:
        self._source = source
        self._holders: dict[str, set[Container]] = {}

    def set_allocations(self, allocations: Iterable[Allocation]) -> None:
        """Take the present allocations."""
        holders: defaultdict[str, set[Container]] = defaultdict(set)
        shared = set()
        for allocation in allocations:
            holders[allocation.gpu.uuid].add(allocation.container)
            if not allocation.sole:
                shared.add(allocation.gpu.uuid)
        self._holders = {uuid: holders[uuid] for uuid in shared}

    def splits(self, gpu_uuid: str) -> bool:
        """Whether a GPU's full reading has to include the utilization of single processes."""
        return self._source is not None and gpu_uuid in self._holders

    def busy_shares(self, reading: FullReading) -> dict[Container, float] | None:
        """Return the share of the GPU's busy time of each holder that can be measured.

        ``None``: the GPU's busy time can't be split.
        """
        utilization, uuid = reading.process_utilization, reading.gpu.uuid
        if utilization is None:
            return None
        attribution = self._attribute(uuid, (process.pid for process in utilization))
        if attribution is None:
            return None
        shares = busy_shares(utilization, attribution.containers)
        return {holder: shares.get(holder, 0.0) for holder in attribution.holders}

    def memory_by_device(self, gpu: Gpu, reading: FastReading) -> dict[str, dict[Container, int]]:
        """Return the bytes in use by each holder that can be measured, by device UUID.

        Devices whose memory can't be split are left out.
        """
        processes = reading.processes
        if processes is None:
            return {}
        attribution = self._attribute(gpu.uuid, {process.pid for process in processes})
        if attribution is None:
            return {}
        found = {}
        for uuid, memory, instance in _memories(gpu, reading):
            used = memory_by_container(memory, processes, attribution.containers, instance)
            if used is not None:
                found[uuid] = {holder: used.get(holder, 0) for holder in attribution.holders}
        return found

    def owners(self, gpu_uuid: str, pids: Iterable[int]) -> Mapping[int, Container]:
        """Return the containers of processes on a shared GPU, as far as they are known.

        The owner of a process that has just ended is known if the last reading listed the process.
        """
        attribution = self._attribute(gpu_uuid, pids)
        return attribution.containers if attribution else {}

    def health(self) -> list[SourceHealth]:
        return [self._source.health()] if self._source else []

    def _attribute(self, gpu_uuid: str, pids: Iterable[int]) -> Attribution | None:
        holders = self._holders.get(gpu_uuid)
        if self._source is None or holders is None:
            return None
        return self._source.attribute(pids, holders)


def _memories(gpu: Gpu, reading: FastReading) -> Iterator[tuple[str, Memory, int | None]]:
    """Yield the UUID, the memory and the GPU instance of each device that has its own memory."""
    if reading.memory is not None and not gpu.mig_enabled:
        yield gpu.uuid, reading.memory, None
    for slice_ in gpu.leading_slices:
        memory = reading.instance_memory.get(slice_.gpu_instance)
        if memory is not None:
            yield slice_.uuid, memory, slice_.gpu_instance
