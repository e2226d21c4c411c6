"""What each container had of a shared device, by the driver's figures of single processes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter.model.claims import Container, PodName
from exporter.model.pods import PodRecord
from exporter.model.readings import Memory, Process, ProcessUtilization
from exporter.processes.cgroups import CgroupRef


def containers_by_pid(
    owners: Mapping[int, CgroupRef | None], pods: Iterable[PodRecord]
) -> dict[int, Container]:
    """Return the container of each process, by name; processes of no pod of ours are left out.

    A container's id decides. One that the API server does not know yet, as after a restart, can
    only be the container of a pod that has no other.
    """
    by_id: dict[str, Container] = {}
    alone: dict[str, Container] = {}
    for pod in pods:
        named = [Container(pod.namespace, pod.name, record.name) for record in pod.containers]
        for container, record in zip(named, pod.containers, strict=True):
            if record.container_id is not None:
                by_id[record.container_id] = container
        if len(named) == 1:
            alone[pod.uid] = named[0]
    found = {
        pid: by_id.get(owner.container_id) or alone.get(owner.pod_uid)
        for pid, owner in owners.items()
        if owner is not None
    }
    return {pid: container for pid, container in found.items() if container is not None}


def told_holders(
    owners: Mapping[int, CgroupRef | None],
    found: Mapping[int, Container],
    holders: Iterable[Container],
    pods: Mapping[PodName, PodRecord],
) -> set[Container]:
    """Return the holders of whose processes none is missing in ``found``.

    A process in a container that nobody knows yet, as after a restart, may be any holder's of its
    pod; in a pod that nobody knows either, any holder's of whom none was found. ``pods`` are all of
    the node's, by namespace and name: of a holder that has none there, nothing can be found.
    """
    told = {holder for holder in holders if holder.pod_name in pods}
    lost = {pid: owner for pid, owner in owners.items() if owner and pid not in found}
    if not lost:
        return told
    others = containers_by_pid(lost, pods.values())
    names = {pod.uid: name for name, pod in pods.items()}
    theirs = {names.get(owner.pod_uid) for pid, owner in lost.items() if pid not in others}
    if None in theirs:
        told &= set(found.values())
    return {holder for holder in told if holder.pod_name not in theirs}


def busy_shares(
    utilization: Iterable[ProcessUtilization], containers: Mapping[int, Container]
) -> dict[Container, float]:
    """Return each container's share of what the device did, by its processes' SM time.

    They sum to at most 1. The rest belongs to processes that are in no container.
    """
    weights: defaultdict[Container | None, float] = defaultdict(float)
    for process in utilization:
        weights[containers.get(process.pid)] += process.sm_ratio
    total = sum(weights.values())
    return {
        container: weight / total
        for container, weight in weights.items()
        if container is not None and total > 0
    }


def memory_parts(
    memory: Memory,
    processes: Iterable[Process],
    containers: Mapping[int, Container],
    gpu_instance: int | None = None,
) -> dict[Container, int] | None:
    """Return the bytes that each container's processes hold of a GPU, or of its GPU instance.

    They sum to at most what is used. ``None``: some process does not tell its memory.
    """
    held: dict[tuple[int, int | None], int] = {}
    for process in processes:
        if process.gpu_instance != gpu_instance:
            continue
        if process.memory_used_bytes is None:
            return None
        # Listed as of several types, it is one process with one figure.
        key = (process.pid, process.compute_instance)
        held[key] = max(held.get(key, 0), process.memory_used_bytes)
    parts: Counter[Container] = Counter()
    for (pid, _), size in held.items():
        if pid in containers:
            parts[containers[pid]] += size
    total = parts.total()
    if total > memory.used_bytes:  # processes that map the same memory count it each
        return {c: size * memory.used_bytes // total for c, size in parts.items()}
    return dict(parts)


class Holder(NamedTuple):
    """What a container had of a device while energy was measured."""

    busy_seconds: float
    held_seconds: float
    """Of a time in which n containers hold the device, each has an n-th."""


def energy_parts(
    joules: float, elapsed: float, busy_seconds: float, holders: Sequence[Holder]
) -> list[float]:
    """Return each holder's part of the energy that a device took over ``elapsed`` seconds.

    Of these it was busy for ``busy_seconds``: that part of the energy is split by busy time. The
    idle part is split evenly among those who held the device. What is left is nobody's: of time in
    which nobody held it, and busy time that is booked on nobody.
    """
    if elapsed <= 0:
        return [0.0] * len(holders)
    # Busy time may be told up to a little later than energy.
    covered = max(elapsed, busy_seconds)
    idle_ratio = (covered - busy_seconds) / covered
    return [
        joules * (busy / covered + idle_ratio * min(1.0, held / elapsed)) for busy, held in holders
    ]
