"""Splits what a shared device did among its containers, by the driver's figures of processes.

A *holder* is a container that the device is allocated to.
"""

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
    """Return the container of each process that runs in a container of ``pods``.

    ``owners`` gives the pod and the container id of each process. The container id decides. If no
    pod has that id yet, as just after a restart, the pod's UID decides, where the pod has only one
    container. All other processes are left out.
    """
    by_id: dict[str, Container] = {}
    alone: dict[str, Container] = {}
    for pod in pods:
        for record in pod.containers:
            container = Container(pod.namespace, pod.name, record.name)
            if record.container_id is not None:
                by_id[record.container_id] = container
            if len(pod.containers) == 1:
                alone[pod.uid] = container
    found = {}
    for pid, owner in owners.items():
        if owner is not None:
            container_of = by_id.get(owner.container_id) or alone.get(owner.pod_uid)
            if container_of is not None:
                found[pid] = container_of
    return found


def fully_attributed(
    owners: Mapping[int, CgroupRef | None],
    found: Mapping[int, Container],
    holders: Iterable[Container],
    pods: Mapping[PodName, PodRecord],
) -> set[Container]:
    """Return the holders whose processes are all known. Of the others some may be missing.

    ``owners`` gives the pod and the container id of each process on the device, ``found`` the
    holder of each process whose holder is known, and ``pods`` all pods of the node by namespace and
    name.

    A process is *stray* if it runs in a pod, but in no container that ``pods`` knows. It may belong
    to a holder that was just started. So a holder is left out in three cases:

    - Its pod is not in ``pods``, so that none of its processes can be found.
    - A stray process runs in its pod.
    - A stray process runs in a pod that is not in ``pods``, and no process of the holder was found.
      The stray process may be the holder's, in a pod that was just created again.
    """
    stray_pods = _pods_of_strays(owners, found, pods)
    candidates = {holder for holder in holders if holder.pod_name in pods}
    if None in stray_pods:
        candidates &= set(found.values())
    return {holder for holder in candidates if holder.pod_name not in stray_pods}


def _pods_of_strays(
    owners: Mapping[int, CgroupRef | None],
    found: Mapping[int, Container],
    pods: Mapping[PodName, PodRecord],
) -> set[PodName | None]:
    """Return the names of the pods in which stray processes run; ``None`` is an unknown pod."""
    unknown = {pid: owner for pid, owner in owners.items() if owner and pid not in found}
    if not unknown:
        return set()
    elsewhere = containers_by_pid(unknown, pods.values())
    names = {pod.uid: name for name, pod in pods.items()}
    return {names.get(owner.pod_uid) for pid, owner in unknown.items() if pid not in elsewhere}


def busy_shares(
    utilization: Iterable[ProcessUtilization], containers: Mapping[int, Container]
) -> dict[Container, float]:
    """Return each container's share of the device's busy time, by the SM time of its processes.

    The shares sum to at most 1. The rest belongs to processes that run in no container.
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


def memory_by_container(
    memory: Memory,
    processes: Iterable[Process],
    containers: Mapping[int, Container],
    gpu_instance: int | None = None,
) -> dict[Container, int] | None:
    """Return the bytes that each container's processes use of a GPU, or of one GPU instance.

    The bytes sum to at most the memory that is in use. ``None``: the driver does not report the
    memory of some process.
    """
    sizes: dict[tuple[int, int | None], int] = {}
    for process in processes:
        if process.gpu_instance != gpu_instance:
            continue
        if process.memory_used_bytes is None:
            return None
        # A process of several types is listed once per type, each time with the same figure.
        key = (process.pid, process.compute_instance)
        sizes[key] = max(sizes.get(key, 0), process.memory_used_bytes)
    used: Counter[Container] = Counter()
    for (pid, _), size in sizes.items():
        if pid in containers:
            used[containers[pid]] += size
    total = used.total()
    if total > memory.used_bytes:  # memory that several processes map is counted for each of them
        return {container: size * memory.used_bytes // total for container, size in used.items()}
    return dict(used)


class Usage(NamedTuple):
    """What a container had of a device since the device's energy was last read."""

    busy_seconds: float
    allocated_seconds: float
    """While the device is allocated to n containers, each gets an nth of the time."""


def split_energy(
    joules: float, elapsed: float, busy_seconds: float, usages: Sequence[Usage]
) -> list[float]:
    """Return each container's energy, of the ``joules`` that a device took in ``elapsed`` seconds.

    The device was busy for ``busy_seconds`` of them. The same fraction of the energy is split by
    busy time; the rest, the idle energy, is split by allocated time. The energy of time in which
    the device was allocated to nobody belongs to nobody, and so does the energy of busy time that
    belongs to no container.
    """
    if elapsed <= 0:
        return [0.0] * len(usages)
    # Busy time may be reported a little later than the energy that it took.
    covered = max(elapsed, busy_seconds)
    idle_ratio = (covered - busy_seconds) / covered
    return [
        joules * (busy / covered + idle_ratio * min(1.0, allocated / elapsed))
        for busy, allocated in usages
    ]
