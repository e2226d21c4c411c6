"""``serve``: sample and answer scrapes until told to stop."""

import asyncio
import logging
import os
import signal
import threading

from exporter import __version__
from exporter.app import logs
from exporter.app.exits import ExitCode
from exporter.app.parts import Parts, running
from exporter.config import Config
from exporter.config.sources import ConfigError
from exporter.sampling.slots import Ticks
from exporter.web.files import UnusableFileError
from exporter.web.server import Handlers, listen, make_app, serving
from exporter.web.tls import tls
from exporter.web.users import Users

log = logging.getLogger(__name__)


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    logs.set_up(config.log_level, config.log_format)
    loop = asyncio.new_event_loop()
    try:
        code = loop.run_until_complete(_serve(config))
        _leave_stuck_threads(code)
    finally:
        loop.close()
    return code


def _leave_stuck_threads(code: int) -> None:
    """Exit at once if a thread would hold the exit, as one does that looks up a name for ever.

    Those are asyncio's own, which ``asyncio.run`` and the interpreter wait for.
    """
    others = (t for t in threading.enumerate() if t is not threading.main_thread())
    if any(not thread.daemon for thread in others):
        logging.shutdown()
        os._exit(code)


async def _serve(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        secure = (
            tls(config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
        )
        users = Users(config.basic_auth_users) if config.basic_auth_users else None
    except UnusableFileError as error:
        raise ConfigError(str(error)) from error
    try:
        socket = listen(config.listen.host, config.listen.port)
    except OSError as error:
        # Python appends what it attempted; the address is ours to name.
        reason = str(error.strerror).partition(" (while")[0]
        raise ConfigError(f"listen: {config.listen}: {reason}") from error
    ticks = Ticks(
        fast=config.fast_interval,
        full=config.full_interval,
        slow=config.slow_interval,
        read_deadline=config.read_deadline,
        peak_window=config.peak_window,
    )
    with socket:
        async with running(config, ticks, advertise=True) as parts:
            handlers = Handlers(
                parts.exposition,
                snapshot=lambda: parts.sampler.snapshot,
                dead=parts.sampler.dead,
            )
            async with serving(make_app(handlers, users), socket, secure) as url:
                log.info(
                    "kube-gpu-exporter %s serves %s/metrics, and a page for people on %s/",
                    __version__,
                    url,
                    url,
                )
                code = await _until(stop, parts)
    log.info("stopped")
    return code


async def _until(stop: asyncio.Event, parts: Parts) -> ExitCode:
    """Wait for the stop, or for a part that ends by itself, which none should."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *parts.tasks}, return_when=asyncio.FIRST_COMPLETED)
    if stopped in done:
        return ExitCode.OK
    stopped.cancel()
    for task in done:
        if not task.cancelled():
            log.critical("%s failed", task.get_name(), exc_info=task.exception())
    return ExitCode.FAILED
