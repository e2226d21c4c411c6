"""A cluster's containers on the simulated GPUs: those to which a real kubelet gave devices."""

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
"""Real seconds for which who is gone is remembered: what it did is integrated at the next read."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One run of a container, on one device."""

    container: Container
    run: str
    """What tells this run from all others of the container."""
    device_uuid: str
    workload: Workload
    started: float
    """In scenario seconds; before the scenario's start it is negative."""


class Guests:
    """Keeps the tenants of ``node`` what a cluster has them be."""

    def __init__(self, node: Node, seed: int, speed: float) -> None:
        self._node = node
        self._seed = seed
        self._kept = _KEPT_SECONDS * speed
        self._numbers = count()
        self._here: dict[Guest, tuple[int, Tenant]] = {}
        self._gone: list[tuple[int, Tenant]] = []

    def set(self, guests: Iterable[Guest], now: float) -> None:
        """Have these be on their devices from ``now`` on, in scenario seconds, and no others."""
        wanted = dict.fromkeys(guests)
        self._gone = [(gpu, gone) for gpu, gone in self._gone if now - gone.end < self._kept]
        for guest in self._here.keys() - wanted.keys():
            index, tenant = self._here.pop(guest)
            self._gone.append((index, replace(tenant, end=now)))
        new = [guest for guest in wanted if guest not in self._here]
        if new:
            devices = self._devices(now)
            gpus = Counter(guest.container for guest in wanted)
            for guest in new:
                if device := devices.get(guest.device_uuid):
                    gpu, part = device
                    tenant = self._seat(guest, gpu, part, gpus[guest.container] - 1)
                    self._here[guest] = gpu.index, tenant
        by_gpu: defaultdict[int, list[Tenant]] = defaultdict(list)
        for index, tenant in (*self._here.values(), *self._gone):
            by_gpu[index].append(tenant)
        self._node.occupy({index: tuple(tenants) for index, tenants in by_gpu.items()})

    def pids(self) -> Mapping[int, Container]:
        """Return whose each process on the node is."""
        return {
            pid_of(self._node, tenant, 0, 0.0): tenant.container
            for _, tenant in self._here.values()
        }

    def _devices(self, now: float) -> Mapping[str, tuple[Gpu, Slice | None]]:
        found: dict[str, tuple[Gpu, Slice | None]] = {}
        for gpu in self._node.gpus(now):
            found[gpu.uuid] = gpu, None
            found.update({part.uuid: (gpu, part) for part in gpu.slices})
        return found

    def _seat(self, guest: Guest, gpu: Gpu, part: Slice | None, peers: int) -> Tenant:
        container = guest.container
        width = 1.0
        if part is not None:
            width = (part.sm_count or 0) / instance_sm_count(gpu, part.gpu_instance)
        return Tenant(
            number=next(self._numbers),
            key=key_of(self._seed, container.namespace, container.pod, guest.device_uuid),
            claims=(Claim(container, "", guest.device_uuid),),
            workload=guest.workload,
            start=guest.started,
            end=float("inf"),
            slice=part,
            width=width,
            peers=peers if part is None else 0,
            exempt="",
            of_cluster=True,
        )
