"""A pod watch that runs against a simulated API server, and waiting for what it has to see."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.reflector import Timing
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.kubernetes.watch import PodWatch
from exporter.model.pods import Termination
from tests.doubles.api_manifests import NODE

QUICK = Timing(back_off=0.01, back_off_cap=0.02, refused_cap=0.05)
SINCE = 1000.0


@asynccontextmanager
async def following(
    server: SimulatedApiServer, *, access: ApiAccess | None = None, **options: Any
) -> AsyncIterator[PodWatch]:
    """Run a watch of ``server`` for as long as the context lasts."""
    access = access or ApiAccess.at(server.url)
    defaults: dict[str, Any] = {
        "since": SINCE,
        "timing": QUICK,
        "rng": random.Random(7),  # noqa: S311  no secret
    }
    watch = PodWatch(access, NODE, **defaults | options)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await access.close()


async def until(what: Callable[[], object], within_seconds: float = 5) -> None:
    """Wait for what has to come true."""
    async with asyncio.timeout(within_seconds):
        while not what():  # noqa: ASYNC110  both ends tell by their state alone
            await asyncio.sleep(0.005)


def names(watch: PodWatch) -> set[str]:
    return {name for _, name in watch.pods()}


async def taken(watch: PodWatch, count: int) -> list[Termination]:
    """Take until there are ``count`` terminations."""
    found: list[Termination] = []

    def enough() -> bool:
        found.extend(watch.take_terminations())
        return len(found) >= count

    await until(enough)
    return found
