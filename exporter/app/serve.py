"""``serve``: sample, and answer scrapes until a signal ends it."""

import asyncio
import errno
import logging
import signal
import socket
from typing import cast

from exporter import __version__
from exporter.app import logs
from exporter.app.allocator import return_large_blocks
from exporter.app.backends import make_backend
from exporter.app.exits import ExitCode
from exporter.app.main_loop import run
from exporter.app.parts import Parts, running
from exporter.config import Address, Config
from exporter.config.sources import ConfigError
from exporter.gpus import Backend
from exporter.sampling.slots import Ticks
from exporter.web.files import UnusableFileError
from exporter.web.server import Handlers, listen, make_app, serving
from exporter.web.tls import Tls
from exporter.web.users import Users

log = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    return_large_blocks()
    logs.set_up(config.log_level, config.log_format)
    tls, users = _access(config)
    with _listen(config.listen) as opened:
        code = run(_serve(config, make_backend(config), opened, tls, users))
    log.info("stopped")
    return code


def _access(config: Config) -> tuple[Tls | None, Users | None]:
    try:
        return (
            Tls(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None,
            Users(config.basic_auth_users) if config.basic_auth_users else None,
        )
    except UnusableFileError as error:
        raise ConfigError(str(error)) from error


def _listen(address: Address) -> socket.socket:
    try:
        return listen(address.host, address.port)
    except (OSError, UnicodeError) as error:
        # Python appends what it attempted; the address is ours to name.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            other = Address(address.host, 9400 + (address.port == 9400))
            reason += f"; to take another: --listen {other}"
        raise ConfigError(f"listen: {address}: {reason}") from error


async def _serve(
    config: Config,
    backend: Backend,
    opened: socket.socket,
    tls: Tls | None,
    users: Users | None,
) -> int:
    ended = cast("asyncio.Task[int]", asyncio.current_task()).cancel
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended)
    ticks = Ticks(
        fast=config.fast_interval,
        full=config.full_interval,
        slow=config.slow_interval,
        read_deadline=config.read_deadline,
        peak_window=config.peak_window,
    )
    expires = (lambda: tls.expires) if tls else (lambda: None)
    try:
        async with running(
            config, backend, ticks, advertise=True, certificate_expires=expires
        ) as parts:
            handlers = Handlers(
                parts.exposition,
                snapshot=lambda: parts.sampler.snapshot,
                dead=parts.sampler.dead,
            )
            async with serving(make_app(handlers, users), opened, tls) as url:
                log.info(
                    "kube-gpu-exporter %s serves %s/metrics, and a page for people on %s/",
                    __version__,
                    url,
                    url,
                )
                await _failure(parts)
                return ExitCode.FAILED
    except asyncio.CancelledError:
        return ExitCode.OK


async def _failure(parts: Parts) -> None:
    """Wait for a part that ends by itself, which none should."""
    done, _ = await asyncio.wait(parts.tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if not task.cancelled():
            log.critical("%s failed", task.get_name(), exc_info=task.exception())
