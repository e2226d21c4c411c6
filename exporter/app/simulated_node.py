"""What a real node has beside its GPUs, for the simulated one: a kubelet, an API server, /proc."""

import asyncio
import math
import re
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from exporter.gpus.simulated.backend import SimulatedBackend
from exporter.gpus.simulated.containers import ContainerState
from exporter.kubelet.simulated import SimulatedKubelet
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.model.claims import Container
from exporter.model.snapshot import SourceHealth

# How often the scenario is looked at.
_KUBELET_SECONDS = 0.2
_PODS_SECONDS = 0.5
# For how long those processes count as running that were found: for all GPUs' reads of a tick.
_PROCESSES_SECONDS = 0.5


class SimulatedProcesses:
    """Tells the containers of the simulated node's processes."""

    def __init__(self, backend: SimulatedBackend) -> None:
        self._backend = backend
        self._running: Mapping[int, Container] = {}
        self._looked = -math.inf

    def containers(
        self, pids: Iterable[int], holders: Collection[Container]
    ) -> Mapping[int, Container]:
        now = self._backend.seconds
        if now - self._looked >= _PROCESSES_SECONDS:
            self._looked = now
            self._running = {
                pid: state.container for state in self._backend.containers() for pid in state.pids
            }
        found = {pid: self._running[pid] for pid in pids if pid in self._running}
        return {pid: container for pid, container in found.items() if container in holders}

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
    shown: dict[Container, tuple[int, ContainerState | None]] = {}
    while True:
        # Each run of the scenario has pods of its own, of the same names.
        run, _ = backend.node.cycle(backend.scenario_seconds)
        states = {state.container: state for state in backend.containers()}
        current = {claim.container: states.get(claim.container) for claim in backend.claims().held}
        for container, state in current.items():
            # Which processes a container has, the API server does not know.
            known = run, replace(state, pids=()) if state else None
            if shown.get(container) != known:
                shown[container] = known
                server.put("pods", _pod(container, state, node, run))
        for container in shown.keys() - current.keys():
            del shown[container]
            server.delete("pods", container.pod, container.namespace)
        await asyncio.sleep(_PODS_SECONDS)


def _pod(container: Container, state: ContainerState | None, node: str, run: int) -> dict[str, Any]:
    """Return a pod as the API server has it. ``name-0`` is the first of a StatefulSet ``name``."""
    uid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{container.namespace}/{container.pod}/{run}"))
    metadata: dict[str, Any] = {
        "name": container.pod,
        "namespace": container.namespace,
        "uid": uid,
        "labels": {"team": container.namespace, "app.kubernetes.io/name": container.pod},
    }
    if numbered := re.fullmatch(r"(.+)-\d+", container.pod):
        owner = {"kind": "StatefulSet", "name": numbered[1], "uid": uid, "controller": True}
        metadata["ownerReferences"] = [{"apiVersion": "apps/v1", **owner}]
        metadata["labels"]["app.kubernetes.io/name"] = numbered[1]
    restarts = state.restarts if state else 0
    status: dict[str, Any] = {
        "name": container.name,
        "restartCount": restarts,
        "containerID": f"containerd://{uid.replace('-', '')}{restarts:032x}",
        "state": {"running": {}},
    }
    if state and state.last_end is not None:
        status["lastState"] = {
            "terminated": {
                "exitCode": state.last_exit_code,
                "reason": "Error",
                "message": state.last_message,
                "finishedAt": _time(state.last_end),
                "containerID": f"containerd://{uid.replace('-', '')}{restarts - 1:032x}",
            }
        }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": container.name}]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
