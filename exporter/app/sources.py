"""The sources of what is known of containers: the kubelet, the API server, the processes."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from exporter.app.api_server import watches_pods
from exporter.app.end_events import event_of
from exporter.app.own_pod import own_pod
from exporter.config import Config
from exporter.config.sources import ConfigError
from exporter.gpus import Backend
from exporter.kubelet.client import PodResourcesClient
from exporter.kubelet.mapper import Mapper
from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.events import EventWriter
from exporter.kubernetes.watch import PodWatch
from exporter.model.clocks import UnixSeconds, unix_time
from exporter.model.snapshot import SourceHealth
from exporter.model.verdicts import EndVerdict
from exporter.processes.owners import ProcessOwners
from exporter.sampling.shared import PodProcesses, ProcessContainers

if TYPE_CHECKING:
    from exporter.gpus.simulated.backend import SimulatedBackend

_BEFORE_SECONDS = 60.0


class Sources:
    """Opens the sources that a configuration asks for. ``stack`` puts all of it away."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._events: EventWriter | None = None
        self.claims: Mapper | None = None
        self.pods: PodWatch | None = None
        self.processes: ProcessContainers | None = None
        self.stack = AsyncExitStack()
        self.tasks: list[asyncio.Task[NoReturn]] = []

    @property
    def beside(self) -> tuple[Callable[[], SourceHealth], ...]:
        """Health of parts that are no sources, but whose failures have to show."""
        return (self._events.health,) if self._events else ()

    async def open(self, backend: Backend, *, advertise: bool = False) -> None:
        """Open what the configuration asks for.

        ``advertise``: where the pods of simulated GPUs are a cluster's, have its kubelet give them
        devices. One program on a node may do so. Raises :class:`ConfigError` before anything runs.
        """
        if backend.name == "simulated":
            await self._open_simulated(backend, advertise=advertise)
        else:
            self._open_real()

    def background(self, work: Coroutine[Any, Any, NoReturn], name: str) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))
        self.stack.push_async_callback(_cancel, self.tasks[-1])

    def on_end(self, verdict: EndVerdict) -> None:
        """Post an Event on the pod, if somebody can act on the cause."""
        if self._events and (found := event_of(verdict)):
            self._events.post(verdict.termination, *found)

    def _open_real(self) -> None:
        config, socket = self._config, self._config.kubelet_socket
        watches = watches_pods(config, os.environ)
        if watches and not config.node:
            raise ConfigError("pod-watch: on wants the node's name, from --node or NODE_NAME")
        if watches:
            self.pods = self._watch(ApiAccess(), config.node)
            self.processes = PodProcesses(ProcessOwners(), self.pods.pods)
        if config.kubelet == "on" or (config.kubelet == "auto" and socket.parent.is_dir()):
            self.claims = self._mapper(socket)

    async def _open_simulated(self, backend: Backend, *, advertise: bool) -> None:
        """Open the same sources, of a kubelet and an API server that the simulated node brings."""
        from exporter.app import simulated_node  # noqa: PLC0415
        from exporter.gpus.simulated.backend import SimulatedBackend  # noqa: PLC0415
        from exporter.kubernetes.simulated import SimulatedApiServer  # noqa: PLC0415

        if not isinstance(backend, SimulatedBackend):
            raise TypeError(f"{backend.name} is no simulated node")
        if backend.pods_of_cluster:
            self._open_cluster(backend, advertise=advertise)
            return
        config = self._config
        if config.pod_watch != "off":
            server = await self.stack.enter_async_context(SimulatedApiServer())
            node = config.node or "simulated"
            self.background(simulated_node.serve_pods(backend, server, node), "simulated pods")
            self.pods = self._watch(ApiAccess.at(server.url), node)
            self.processes = simulated_node.SimulatedProcesses(backend)
        if config.kubelet != "off":
            socket = Path(self.stack.enter_context(_temporary_folder()), "kubelet.sock")
            self.background(simulated_node.serve_kubelet(backend, socket), "simulated kubelet")
            self.claims = self._mapper(socket)

    def _open_cluster(self, backend: "SimulatedBackend", *, advertise: bool) -> None:
        """Open the real sources, and have the cluster's pods be on the simulated GPUs."""
        from exporter.app.simulated_cluster import Loads, real_gpu  # noqa: PLC0415
        from exporter.app.simulated_node import SimulatedProcesses  # noqa: PLC0415
        from exporter.kubelet.plugin import DevicePlugins  # noqa: PLC0415

        if found := real_gpu():
            raise ConfigError(f"scenario: GPUs are not simulated on a node that has some: {found}")
        self._open_real()
        self.processes = SimulatedProcesses(backend)
        if self.claims is None:
            return
        loads = Loads(backend, self.claims, self.pods)
        self.background(loads.run(), "simulated loads")
        if advertise:
            folder = self._config.kubelet_socket.parent.parent / "device-plugins"
            plugins = DevicePlugins(folder, backend.advertised)
            self.background(plugins.run(), "device plugins")

    def _mapper(self, socket: Path) -> Mapper:
        config = self._config
        client = PodResourcesClient(
            socket,
            resources=config.resources,
            own_pod=own_pod(os.environ),
            timeout_seconds=config.kubelet_timeout,
        )
        self.stack.push_async_callback(client.close)
        mapper = Mapper(
            client,
            period_seconds=config.kubelet_interval,
            grace_seconds=config.claims_grace,
            witness=self.pods,
        )
        if self.pods:
            self.pods.subscribe(mapper.expect)
        self.background(mapper.run(), "kubelet")
        return mapper

    def _watch(self, access: ApiAccess, node: str) -> PodWatch:
        self.stack.push_async_callback(access.close)
        # The judge decides which ends are its own; it may want a few of those before the start.
        since = UnixSeconds(unix_time() - _BEFORE_SECONDS)
        watch = PodWatch(
            access,
            node,
            since=since,
            labels=self._config.pod_labels,
            resources=self._config.resources,
            dra=True,
        )
        self.background(watch.run(), "pod watch")
        if self._config.pod_events == "on":
            self._events = EventWriter(access, node)
            self.background(self._events.run(), "pod events")
        return watch


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that goes by itself, also in a container whose root is read-only."""
    prefix = "gpu-exporter-"
    try:
        return tempfile.TemporaryDirectory(prefix=prefix)
    except FileNotFoundError:
        return tempfile.TemporaryDirectory(prefix=prefix, dir="/dev/shm")


async def _cancel(task: asyncio.Task[NoReturn]) -> None:
    task.cancel()
    # Whoever waits for the parts' tasks hears of an error; here they are only put away.
    with suppress(asyncio.CancelledError, Exception):
        await task
