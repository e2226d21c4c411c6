"""Where readings come from. One folder per backend, each behind the port below.

A backend converts units to base units, and maps every error of its library to a
:class:`~exporter.model.readings.Reason`. Calls block, and a call into a wedged driver may never
return: callers make them from daemon threads, at most one at a time per reader.
"""

from collections.abc import Sequence
from typing import Protocol

from exporter.model.devices import Driver, Gpu
from exporter.model.readings import Event, FastReading, FullReading, Reason, SlowReading


class GpuError(Exception):
    """A whole read, or the driver, failed; ``reason`` says how."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Reader(Protocol):
    """Reads one GPU. A field that fails alone goes into the reading's ``failures``.

    The first read, whichever it is, also identifies the GPU: that takes many calls, and each of
    them may hang.
    """

    @property
    def gpu(self) -> Gpu:
        """The GPU as last identified; before the first read no more than its uuid and index."""

    def read_fast(self) -> FastReading:
        """Raise :class:`GpuError` when the GPU or the driver is gone, or answers nothing at all."""

    def read_full(self, *, processes: bool = False) -> FullReading:
        """Identify the GPU again when its MIG layout has changed. Raises like ``read_fast``.

        ``processes``: also the utilisation of single processes. It costs milliseconds, and means
        something only where several containers share the GPU.
        """

    def read_slow(self) -> SlowReading:
        """Raise like ``read_fast``."""


class Backend(Protocol):
    """A vendor's driver. ``open`` after ``close`` starts anew, also with an upgraded driver."""

    @property
    def name(self) -> str: ...

    def open(self) -> Driver:
        """Connect to the driver. Raises :class:`GpuError`; may be tried again."""

    def readers(self) -> Sequence[Reader]:
        """List the GPUs that are there now, by index; identify none, so that none can hold us up.

        A GPU that the driver counts but can't name has a reader as well, whose reads raise until a
        later session names it. Its uuid is the one that was last at its index; if none was, a
        stand-in such as ``GPU-at-index-3``. Raises :class:`GpuError` when the driver can't list
        them.
        """

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        """Block until an event, at most for the timeout. Raises :class:`GpuError`.

        A GPU's events are heard once it has been read.
        """

    def close(self) -> None:
        """Let go of the driver. No other call may be under way. Never raises."""
