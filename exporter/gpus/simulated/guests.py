"""The containers of a real cluster to which the kubelet has given simulated GPUs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from exporter.gpus.simulated.layout import instance_sm_count
from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.processes import pid_of
from exporter.gpus.simulated.workloads import Workload, key_of
from exporter.model.claims import Claim, Container
from exporter.model.devices import Gpu, Slice

_KEPT_SECONDS: Final = 30.0
"""For how many real seconds a guest is kept after its end: the next read integrates its work."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One run of a container, on one device."""

    container: Container
    run: str
    """Identifies the run among all runs of the container."""
    device_uuid: str
    workload: Workload
    started: float
    """In scenario seconds. It is negative for a run that started before the scenario."""


class Guests:
    """Keeps the tenants of ``node`` in step with a real cluster."""

    def __init__(self, node: Node, seed: int, speed: float) -> None:
        self._node = node
        self._seed = seed
        self._kept = _KEPT_SECONDS * speed
        self._numbers = count()
        self._here: dict[Guest, tuple[int, Tenant]] = {}
        self._gone: list[tuple[int, Tenant]] = []

    def set(self, guests: Iterable[Guest], now: float) -> None:
        """Put these guests on their devices at ``now``, in scenario seconds, and end all others."""
        wanted = dict.fromkeys(guests)
        self._gone = [(gpu, gone) for gpu, gone in self._gone if now - gone.end < self._kept]
        for guest in self._here.keys() - wanted.keys():
            index, tenant = self._here.pop(guest)
            self._gone.append((index, replace(tenant, end=now)))
        if wanted.keys() - self._here.keys():
            self._add_new(wanted, now)
        by_gpu: defaultdict[int, list[Tenant]] = defaultdict(list)
        for index, tenant in (*self._here.values(), *self._gone):
            by_gpu[index].append(tenant)
        self._node.occupy({index: tuple(tenants) for index, tenants in by_gpu.items()})

    def pids(self) -> Mapping[int, Container]:
        """Return the container of each process on the node."""
        return {
            pid_of(self._node, tenant, 0, 0.0): tenant.container
            for _, tenant in self._here.values()
        }

    def _add_new(self, wanted: Iterable[Guest], now: float) -> None:
        devices = self._devices(now)
        gpus = Counter(guest.container for guest in wanted)
        for guest in wanted:
            device = devices.get(guest.device_uuid)
            if device and guest not in self._here:
                gpu, slice_ = device
                tenant = self._seat(guest, gpu, slice_, gpus[guest.container] - 1)
                self._here[guest] = gpu.index, tenant

    def _devices(self, now: float) -> Mapping[str, tuple[Gpu, Slice | None]]:
        found: dict[str, tuple[Gpu, Slice | None]] = {}
        for gpu in self._node.gpus(now):
            found[gpu.uuid] = gpu, None
            found.update({slice_.uuid: (gpu, slice_) for slice_ in gpu.slices})
        return found

    def _seat(self, guest: Guest, gpu: Gpu, slice_: Slice | None, peers: int) -> Tenant:
        container = guest.container
        width = 1.0
        if slice_ is not None:
            width = (slice_.sm_count or 0) / instance_sm_count(gpu, slice_.gpu_instance)
        return Tenant(
            number=next(self._numbers),
            key=key_of(self._seed, container.namespace, container.pod, guest.device_uuid),
            claims=(Claim(container, "", guest.device_uuid),),
            workload=guest.workload,
            start=guest.started,
            end=float("inf"),
            slice=slice_,
            width=width,
            peers=peers if slice_ is None else 0,
            exempt="",
            of_cluster=True,
        )
