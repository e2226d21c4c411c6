"""The parts of the running program, put together from a configuration."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

from prometheus_client import CollectorRegistry, ProcessCollector

from exporter.app.backends import make_backend
from exporter.app.sources import Sources
from exporter.config import Config
from exporter.metrics.exposition import Exposition
from exporter.metrics.profiles import select
from exporter.model.clocks import unix_time
from exporter.sampling.containers import Containers
from exporter.sampling.sampler import Sampler
from exporter.sampling.slots import Ticks
from exporter.sampling.worker import ThreadWorker

# A stopped pod has to be gone within 2 s, whatever hangs.
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    sampler: Sampler
    exposition: Exposition
    tasks: tuple[asyncio.Task[NoReturn], ...]
    """What has to go on for the program to go on."""


@asynccontextmanager
async def running(config: Config, ticks: Ticks, *, advertise: bool = False) -> AsyncIterator[Parts]:
    """Run everything but the web server; ``advertise`` as in :meth:`Sources.open`.

    Raises :class:`~exporter.config.sources.ConfigError` before anything runs.
    """
    backend = make_backend(config)
    sources = Sources(config)
    try:
        await sources.open(backend, advertise=advertise)
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        exposition = Exposition(
            lambda: sampler.snapshot,
            node=config.node,
            pod_labels=config.pod_labels,
            families=select(config.metrics),
            beside=process,
        )
        loop = asyncio.get_running_loop()
        sampler = Sampler(
            backend,
            ticks=ticks,
            workers=lambda name: ThreadWorker(name, loop.call_soon_threadsafe),
            containers=Containers(
                claims=sources.claims,
                pods=sources.pods,
                processes=sources.processes,
                beside=sources.beside,
                ended_grace=config.ended_grace,
                started=unix_time(),
                on_oom=sources.on_oom,
            ),
            on_publish=exposition.refresh,
            pod_labels=config.pod_labels,
        )
        sources.stack.callback(sampler.stop)
        sources.background(sampler.run(), "sampling")
        yield Parts(sampler, exposition, tuple(sources.tasks))
    finally:
        with suppress(TimeoutError):  # what is stuck is left behind
            async with asyncio.timeout(_STOP_SECONDS):
                await sources.stack.aclose()
