"""What a real node has beside its GPUs, for the simulated one: a kubelet, an API server, /proc."""

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

from exporter.app.simulated_pods import by_pod, manifest
from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.kubelet.simulated import SimulatedKubelet
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.model.claims import Container, PodName
from exporter.model.snapshot import SourceHealth
from exporter.sampling.shared import Attribution

# How often the scenario is looked at.
_KUBELET_SECONDS = 0.2
_PODS_SECONDS = 0.5
# For how long those processes count as running that were found: for all GPUs' reads of a tick.
_PROCESSES_SECONDS = 0.5


class SimulatedProcesses:
    """Knows the containers of the simulated node's processes."""

    def __init__(self, backend: SimulatedBackend) -> None:
        self._backend = backend
        self._running: Mapping[int, Container] = {}
        self._looked = -math.inf

    def attribute(self, pids: Iterable[int], holders: Collection[Container]) -> Attribution:
        now = self._backend.seconds
        if now - self._looked >= _PROCESSES_SECONDS:
            self._looked = now
            self._running = self._backend.processes()
        found = {pid: self._running[pid] for pid in pids if pid in self._running}
        return Attribution({pid: who for pid, who in found.items() if who in holders}, holders)

    def health(self) -> SourceHealth:
        return SourceHealth("processes", up=True)


async def serve_kubelet(backend: SimulatedBackend, socket: Path) -> NoReturn:
    """Serve the node's claims, but for the times that the scenario has the kubelet down."""
    kubelet, serves = SimulatedKubelet(socket, backend.claims), False
    try:
        while True:
            if serves is backend.kubelet_down:
                await (kubelet.stop() if serves else kubelet.start())
                serves = not serves
            await asyncio.sleep(_KUBELET_SECONDS)
    finally:
        await kubelet.stop()


async def serve_pods(backend: SimulatedBackend, server: SimulatedApiServer, node: str) -> NoReturn:
    """Keep the API server's pods what the scenario has them be."""
    shown: dict[PodName, tuple[int, object]] = {}
    while True:
        # Each cycle of the scenario has pods of its own, of the same names.
        cycle, _ = backend.node.cycle(backend.scenario_seconds)
        current = by_pod(backend.containers())
        for name, (before, _) in list(shown.items()):
            if name not in current or before != cycle:
                del shown[name]
                server.delete("pods", name.name, name.namespace)
        for name, states in current.items():
            if shown.get(name) != (cycle, states):
                shown[name] = cycle, states
                server.put("pods", manifest(states, node, cycle))
        await asyncio.sleep(_PODS_SECONDS)
