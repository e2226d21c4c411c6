"""One thread at a time, for functions of the driver's library that two threads must not be in."""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

import pynvml

from exporter.gpus.nvml.library import CallError

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 1.0
"""How long a thread waits for its turn. A call takes milliseconds, so a longer one is stuck."""


class Turnstile:
    """Lets one thread at a time through.

    NVML is meant to be thread-safe, and its performance monitor is not. On driver 580.159.04 two
    threads in ``nvmlGpmSampleGet``, each for a GPU of its own, spoil the samples, and
    ``nvmlGpmMetricsGet`` then reads memory that is not there: of 24 processes 11 died within 40
    seconds. With one thread at a time in the first of the two, none did.

    A thread that never comes back costs the others this call alone: they wait once, and then no
    more until the turnstile is free again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._patience = _PATIENCE_SECONDS

    def __call__(self, call: Callable[[], T]) -> T:
        """Make the call. Raises NVML's time-out error when another thread does not leave."""
        if not self._lock.acquire(timeout=self._patience):
            self._patience = 0.0
            raise CallError(pynvml.NVML_ERROR_TIMEOUT)
        self._patience = _PATIENCE_SECONDS
        try:
            return call()
        finally:
            self._lock.release()
