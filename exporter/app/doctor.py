"""``doctor``: what this node and pod give the exporter, what is missing, and what to do about it.

Whatever may block, as a wedged driver does, is called from daemon threads and given up after a
while, so that a hung GPU is a finding and no hang.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
from exporter.app.patience import within
from exporter.config import Config
from exporter.gpus import Backend, Reader
from exporter.kubernetes.access import ApiAccess
from exporter.model.claims import Claims

_ACTIVITY_SECONDS: Final = 0.5
"""Between two full reads. GPM needs its samples at least 100 ms apart."""


def doctor(config: Config) -> int:
    """Print the findings; fails when something that is needed is missing."""
    findings = list(examine(config, make_backend(config), environment=os.environ))
    click.echo(report(findings))
    failed = any(finding.level is Level.FAIL for finding in findings)
    return ExitCode.FAILED if failed else ExitCode.OK


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
    simulated = backend.name == "simulated"
    if simulated:
        yield Finding("backend", Level.INFO, "simulated: no figure is real")
    else:
        yield checks.driver(root)
        (nodes,) = within(patience, [partial(checks.device_nodes, root)])
        yield checks.failed("device nodes", nodes) if isinstance(nodes, Exception) else nodes
    yield from _gpus(backend, environment, root, patience)
    # The simulated node brings these, unless its pods are a cluster's.
    simulated = brings_sources(backend)
    yield checks.kubelet_socket(config, simulated=simulated) or _kubelet(config, patience)
    yield checks.node_name(config)
    yield checks.pid_namespace(root)
    yield from _pods(config, environment, root, patience, access, simulated=simulated)


def report(findings: Sequence[Finding]) -> str:
    """Lay findings out for people, with a summary at the end."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.upper():<4}  {finding.name:<{width}}  {finding.what}")
        if finding.todo:
            lines.append(f"{'':<4}  {'':<{width}}  -> {finding.todo}")
    levels = Counter(finding.level for finding in findings)
    lines += ["", ", ".join(f"{levels[level]} {level}" for level in Level if levels[level])]
    return "\n".join(lines)


def _gpus(
    backend: Backend, environment: Mapping[str, str], root: Path, patience: float
) -> Iterator[Finding]:
    (opened,) = within(patience, [backend.open])
    yield checks.library(opened)
    if isinstance(opened, Exception):
        return
    (readers,) = within(patience, [backend.readers])
    if isinstance(readers, Exception):
        yield checks.failed("GPUs", readers)
        return
    results = within(patience, [partial(_read, reader) for reader in readers])
    gpus = [
        result.full.gpu if isinstance(result, Readings) else reader.gpu
        for reader, result in zip(readers, results, strict=True)
    ]
    known = len(list((root / "proc/driver/nvidia/gpus").glob("*")))
    yield checks.devices(gpus, known, environment)
    yield checks.mig(gpus, environment)
    yield from checks.readings(dict(zip((gpu.index for gpu in gpus), results, strict=True)))
    read = [result for result in results if isinstance(result, Readings)]
    if read:
        yield checks.activity(read)
    if not any(isinstance(result, TimeoutError) for result in results):
        backend.close()


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
