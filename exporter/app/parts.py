"""The parts of the running program, put together from a configuration."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prometheus_client import CollectorRegistry, ProcessCollector

from exporter.app.backends import make_backend
from exporter.config import Config
from exporter.gpus import Backend
from exporter.kubelet.client import PodResourcesClient
from exporter.kubelet.mapper import Mapper
from exporter.metrics.exposition import Exposition
from exporter.sampling.sampler import Sampler, Ticks
from exporter.sampling.worker import ThreadWorker

# How often the simulated kubelet looks whether the scenario wants it down.
_KUBELET_FAULT_SECONDS = 0.2
# A stopped pod has to be gone within 2 s, whatever hangs.
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    sampler: Sampler
    exposition: Exposition
    tasks: tuple[asyncio.Task[NoReturn], ...]
    """What has to go on for the program to go on."""


@asynccontextmanager
async def running(config: Config, ticks: Ticks) -> AsyncIterator[Parts]:
    """Run everything but the web server.

    Raises :class:`~exporter.config.sources.ConfigError` before anything runs.
    """
    backend = make_backend(config)
    stack = AsyncExitStack()
    tasks: list[asyncio.Task[NoReturn]] = []

    def background(work: Coroutine[Any, Any, NoReturn], name: str) -> None:
        tasks.append(asyncio.create_task(work, name=name))
        stack.push_async_callback(_cancel, tasks[-1])

    try:
        socket = config.kubelet_socket
        if backend.name == "simulated":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-exporter-"))
            socket = Path(folder, "kubelet.sock")
            background(_simulate_kubelet(backend, socket), "simulated kubelet")
        mapper = None
        if config.kubelet == "on" or (config.kubelet == "auto" and socket.parent.is_dir()):
            client = PodResourcesClient(
                socket, resources=config.resources, timeout_seconds=config.kubelet_timeout
            )
            stack.push_async_callback(client.close)
            mapper = Mapper(
                client,
                period_seconds=config.kubelet_interval,
                grace_seconds=config.claims_grace,
            )
            background(mapper.run(), "kubelet")
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        exposition = Exposition(lambda: sampler.snapshot, node=config.node, beside=process)
        loop = asyncio.get_running_loop()
        sampler = Sampler(
            backend,
            ticks=ticks,
            workers=lambda name: ThreadWorker(name, loop.call_soon_threadsafe),
            claims=mapper,
            on_publish=exposition.refresh,
        )
        stack.callback(sampler.stop)
        background(sampler.run(), "sampling")
        yield Parts(sampler, exposition, tuple(tasks))
    finally:
        with suppress(TimeoutError):  # what is stuck is left behind
            async with asyncio.timeout(_STOP_SECONDS):
                await stack.aclose()


async def _cancel(task: asyncio.Task[NoReturn]) -> None:
    task.cancel()
    # Whoever waits for the parts' tasks hears of an error; here they are only put away.
    with suppress(asyncio.CancelledError, Exception):
        await task


async def _simulate_kubelet(backend: Backend, socket: Path) -> NoReturn:
    """Serve the simulated node's claims, but for the times that the scenario has it down."""
    from exporter.gpus.simulated.backend import SimulatedBackend  # noqa: PLC0415
    from exporter.kubelet.simulated import SimulatedKubelet  # noqa: PLC0415

    if not isinstance(backend, SimulatedBackend):
        raise TypeError(f"{backend.name} is no simulated node")
    kubelet, serves = SimulatedKubelet(socket, backend.claims), False
    try:
        while True:
            if serves is backend.kubelet_down:
                await (kubelet.stop() if serves else kubelet.start())
                serves = not serves
            await asyncio.sleep(_KUBELET_FAULT_SECONDS)
    finally:
        await kubelet.stop()
