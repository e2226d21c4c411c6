"""``once``: one scrape to standard output."""

import asyncio

import click

from exporter.app import logs
from exporter.app.backends import make_backend
from exporter.app.exits import ExitCode
from exporter.app.main_loop import end_with_signal, run
from exporter.app.parts import Parts, running
from exporter.config import Config
from exporter.gpus import Backend
from exporter.model.snapshot import Snapshot
from exporter.sampling.slots import Ticks

# Activity and clocks need two full readings, which follow each other closely here.
_TICKS = Ticks(fast=0.25, full=0.5, slow=0.5)
_READINGS_SECONDS = 1.2
_POLL_SECONDS = 0.05


def once(config: Config) -> int:
    """Print one scrape; fail when no GPU can be read."""
    end_with_signal()
    logs.set_up(config.log_level, config.log_format)
    return run(_once(config, make_backend(config)))


async def _once(config: Config, backend: Backend) -> int:
    async with running(config, backend, _TICKS) as parts:
        if await _data_within(config.read_deadline, parts):
            await asyncio.sleep(_READINGS_SECONDS)
        # What can't be read is absent, and the health families report why.
        click.echo(parts.exposition.render(), nl=False)
        return ExitCode.OK if _readable(parts.sampler.snapshot) else ExitCode.FAILED


async def _data_within(seconds: float, parts: Parts) -> bool:
    for _ in range(round(seconds / _POLL_SECONDS)):
        if _readable(parts.sampler.snapshot):
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False


def _readable(snapshot: Snapshot) -> bool:
    return any(sample.data is not None for sample in snapshot.gpus)
