"""``doctor``: what this node and pod give the exporter, what is missing, and what to do about it.

Whatever may block, as a wedged driver does, is called from a daemon thread and given up after a
while, so that a hung GPU is a finding, and doctor itself does not hang.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import click

from exporter.app import checks
from exporter.app.api_server import try_pods, try_resource_slices, watches_pods
from exporter.app.backends import brings_sources, make_backend
from exporter.app.checks import Finding, Level, Readings
from exporter.app.exits import ExitCode
from exporter.app.main_loop import end_with_signal
from exporter.app.patience import within
from exporter.app.simulated_cluster import real_gpu
from exporter.config import Config
from exporter.gpus import Backend, Reader
from exporter.kubernetes.access import ApiAccess
from exporter.model.claims import Claims
from exporter.model.devices import Driver, Gpu

_NAME_WIDTH: Final = len("device nodes")
_ACTIVITY_SECONDS: Final = 0.5
"""Between two full reads. GPM needs its samples at least 100 ms apart."""


def doctor(config: Config) -> int:
    """Print each finding as soon as there is one; fail when something that is needed is missing."""
    end_with_signal()
    levels: Counter[Level] = Counter()
    for finding in examine(config, make_backend(config), environment=os.environ):
        levels[finding.level] += 1
        click.echo(layout(finding))
    summary = ", ".join(f"{levels[level]} {level}" for level in Level if levels[level])
    click.echo(f"\n{summary}")
    return ExitCode.FAILED if levels[Level.FAIL] else ExitCode.OK


def layout(finding: Finding) -> str:
    """Lay a finding out in columns, with what to do about it on a line of its own."""
    line = f"{finding.level.upper():<4}  {finding.name:<{_NAME_WIDTH}}  {finding.what}"
    return f"{line}\n{'':<{4 + 2 + _NAME_WIDTH}}  -> {finding.todo}" if finding.todo else line


def examine(
    config: Config,
    backend: Backend,
    *,
    environment: Mapping[str, str],
    root: Path = Path("/"),
    patience: float = 10.0,
    access: Callable[[], ApiAccess] = ApiAccess,
) -> Iterator[Finding]:
    """Check everything. ``root`` holds ``proc``, ``dev`` and ``var``; ``patience`` is in seconds.

    Waiting is long, because a driver without persistence mode takes seconds to wake its GPUs.
    """
    if backend.name == "simulated":
        yield Finding("backend", Level.INFO, "simulated: no figure is real")
        (opened,) = within(patience, [backend.open])
        yield checks.library(opened, environment)
    else:
        opened = yield from _open(backend, environment, root, patience)
    if not isinstance(opened, Exception):
        yield from _gpus(backend, environment, root, patience)
    # The simulated node brings these, unless its pods are a cluster's.
    simulated = brings_sources(backend)
    yield checks.kubelet_socket(config, simulated=simulated) or _kubelet(config, patience)
    yield checks.node_name(config)
    yield checks.pid_namespace(root)
    yield from _pods(config, environment, root, patience, access, simulated=simulated)


def _open(
    backend: Backend, environment: Mapping[str, str], root: Path, patience: float
) -> Generator[Finding, None, Driver | Exception]:
    """Open the driver, and judge what the kernel shows of it by whether the driver answers."""
    (nodes,) = within(patience, [partial(checks.device_nodes, root, environment)])
    kernel = [
        checks.driver(root),
        checks.failed("device nodes", nodes, environment)
        if isinstance(nodes, Exception)
        else nodes,
    ]
    yield from (finding for finding in kernel if finding.level is not Level.FAIL)
    (opened,) = within(patience, [backend.open])
    missing = [finding for finding in kernel if finding.level is Level.FAIL]
    answers = not isinstance(opened, Exception)
    yield from (checks.not_needed(each) if answers else each for each in missing)
    yield checks.library(opened, environment)
    if not answers and real_gpu(root) is None:
        yield checks.NO_GPU
    return opened


def _gpus(
    backend: Backend, environment: Mapping[str, str], root: Path, patience: float
) -> Iterator[Finding]:
    (readers,) = within(patience, [backend.readers])
    if isinstance(readers, Exception):
        yield checks.failed("GPUs", readers, environment)
        return
    results = within(patience, [partial(_read, reader) for reader in readers])
    gpus = [_identified(reader, result) for reader, result in zip(readers, results, strict=True)]
    known = len(list((root / "proc/driver/nvidia/gpus").glob("*")))
    yield checks.devices(gpus, known, environment)
    yield checks.mig(gpus, environment)
    by_index = dict(zip((gpu.index for gpu in gpus), results, strict=True))
    yield from checks.readings(by_index, environment)
    yield from checks.activity([each for each in results if isinstance(each, Readings)])
    if any(isinstance(result, TimeoutError) for result in results):
        return  # the driver would be closed under a read
    (closed,) = within(patience, [backend.close])
    if isinstance(closed, Exception):
        yield checks.failed("closing", closed, environment)


def _identified(reader: Reader, result: Readings | Exception) -> Gpu:
    """Return the GPU as a reading shows it, which is more than the list of GPUs shows."""
    return result.full.gpu if isinstance(result, Readings) else reader.gpu


def _read(reader: Reader) -> Readings:
    fast = reader.read_fast()
    reader.read_full()
    time.sleep(_ACTIVITY_SECONDS)
    return Readings(fast, reader.read_full(), reader.read_slow())


def _kubelet(config: Config, patience: float) -> Finding:
    (answer,) = within(patience, [lambda: asyncio.run(_claims(config))])
    return checks.kubelet_claims(answer, config.resources)


def _pods(
    config: Config,
    environment: Mapping[str, str],
    root: Path,
    patience: float,
    access: Callable[[], ApiAccess],
    *,
    simulated: bool,
) -> Iterator[Finding]:
    if simulated or not config.node or not watches_pods(config, environment, root):
        yield checks.pods_unwatched(config, simulated=simulated)
        return

    async def ask(question: Callable[[ApiAccess, str], Awaitable[str | None]]) -> str | None:
        connection = access()
        try:
            return await question(connection, config.node)
        finally:
            await connection.close()

    pods, slices = within(
        patience,
        [lambda: asyncio.run(ask(try_pods)), lambda: asyncio.run(ask(try_resource_slices))],
    )
    yield checks.pods(pods)
    if not isinstance(pods, Exception):
        yield checks.resource_slices(slices)


async def _claims(config: Config) -> Claims:
    # gRPC is a quarter of the program's memory: loaded once it is sure to be needed.
    from exporter.kubelet.client import PodResourcesClient  # noqa: PLC0415

    client = PodResourcesClient(
        config.kubelet_socket,
        resources=config.resources,
        timeout_seconds=config.kubelet_timeout,
    )
    try:
        claims = await client.claims()
        return replace(claims, allocatable=await client.allocatable())
    finally:
        await client.close()
