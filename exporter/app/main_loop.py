"""The event loop that a command runs in, and what ends it."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from exporter.app.exits import ExitCode


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's work in an event loop of its own, and return its exit code.

    Other than ``asyncio.run``, this does not wait for threads of the loop that are stuck.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(work)
    finally:
        runner.get_loop().close()


def end_with_signal() -> None:
    """End at once on SIGTERM, with the exit code that a shell gives; on Ctrl-C, be interrupted."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.TERMINATED))
    signal.signal(signal.SIGINT, signal.default_int_handler)
