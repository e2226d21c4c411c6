"""The parts of the running program, put together from a configuration."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import NoReturn

from prometheus_client import CollectorRegistry, ProcessCollector

from exporter.app.sources import Sources
from exporter.config import Config
from exporter.gpus import Backend
from exporter.metrics.exposition import Exposition
from exporter.metrics.profiles import select
from exporter.model.clocks import unix_time
from exporter.model.snapshot import Snapshot
from exporter.sampling.containers import Containers
from exporter.sampling.sampler import Sampler
from exporter.sampling.slots import Ticks
from exporter.sampling.worker import ThreadWorker

# The program ends within 2 s of a signal, whatever hangs.
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    sampler: Sampler
    exposition: Exposition
    tasks: tuple[asyncio.Task[NoReturn], ...]
    """If one of them ends, the program ends."""


class _Snapshots:
    """The sampler's snapshots, with when the server's certificate expires.

    The same snapshot is given until one of the two changes, so that it is rendered once.
    """

    def __init__(
        self, sampled: Callable[[], Snapshot], certificate_expires: Callable[[], float | None]
    ) -> None:
        self._sampled = sampled
        self._certificate_expires = certificate_expires
        self._last: Snapshot | None = None
        self._made: Snapshot | None = None

    def __call__(self) -> Snapshot:
        sampled, expires = self._sampled(), self._certificate_expires()
        if (
            self._made is None
            or sampled is not self._last
            or expires != self._made.certificate_expires
        ):
            self._last = sampled
            self._made = replace(sampled, certificate_expires=expires)
        return self._made


@asynccontextmanager
async def running(
    config: Config,
    backend: Backend,
    ticks: Ticks,
    *,
    advertise: bool = False,
    certificate_expires: Callable[[], float | None] = lambda: None,
) -> AsyncIterator[Parts]:
    """Run everything but the web server; ``advertise`` as in :meth:`Sources.open`.

    ``certificate_expires`` gives Unix seconds.

    Raises :class:`~exporter.config.sources.ConfigError` before anything runs.
    """
    sources = Sources(config)
    try:
        await sources.open(backend, advertise=advertise)
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        snapshots = _Snapshots(lambda: sampler.snapshot, certificate_expires)
        exposition = Exposition(
            snapshots,
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
                on_end=sources.on_end,
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
