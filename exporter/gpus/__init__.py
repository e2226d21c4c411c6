"""Where readings come from. One folder per backend, each behind the port below.

A backend converts units to base units, and maps every error of its library to a
:class:`~exporter.model.readings.Reason`. Calls block, and a call into a wedged driver may never
return: callers make them from daemon threads, at most one at a time per reader.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from exporter.model.devices import Driver, Gpu
from exporter.model.readings import Event, FastReading, FullReading, Reason, SlowReading


class GpuError(Exception):
    """A whole read, or the driver, failed; ``reason`` says how."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Reader(Protocol):
    """Reads one GPU of a session. A field that fails alone goes into the reading's ``failures``.

    The first read, whichever it is, also identifies the GPU: that takes many calls, and each of
    them may hang. All calls but :meth:`wait_events` are made from one thread.
    """

    @property
    def index(self) -> int:
        """The driver's number of the GPU in this session."""

    @property
    def gpu(self) -> Gpu:
        """The GPU as last identified; before the first read no more than what it is known as."""

    @property
    def returned(self) -> int:
        """Return how many calls into the driver have returned. It stands still while one hangs."""

    def find(self) -> str:
        """Look the GPU up; return its UUID, or an empty text if that can't be read.

        Raise like ``read_fast``.
        """

    def known_as(self, uuid: str, index: int) -> None:
        """Give the GPU the UUID and the number that its readings and events carry from now on.

        They outlive a session; the driver's number may be another in the next one.
        """

    def read_fast(self) -> FastReading:
        """Raise :class:`GpuError` when the GPU or the driver is gone, or answers nothing at all."""

    def read_full(self, *, processes: bool = False) -> FullReading:
        """Identify the GPU again when its MIG layout has changed. Raises like ``read_fast``.

        ``processes``: also the utilisation of single processes. It costs milliseconds, and means
        something only where several containers share the GPU.
        """

    def read_slow(self) -> SlowReading:
        """Raise like ``read_fast``."""

    def wait_events(self, timeout_seconds: float) -> Sequence[Event]:
        """Block until an event of this GPU, at most for the timeout; on a thread of its own.

        Events are heard once the GPU has been read. Raises :class:`GpuError`; its reason is "not
        supported" where a GPU never reports any.
        """


class Backend(Protocol):
    """A vendor's driver. ``open`` after ``close`` starts anew, also with an upgraded driver."""

    @property
    def name(self) -> str: ...

    def open(self) -> Driver:
        """Connect to the driver. Raises :class:`GpuError`; may be tried again."""

    def readers(self) -> Sequence[Reader]:
        """Return a reader for each GPU that the driver counts, and make no call on any GPU.

        Raises :class:`GpuError` when the driver can't count them.
        """

    def close(self) -> None:
        """Let go of the driver. No other call may be under way. Never raises."""

    def present(self) -> Mapping[str, bool] | None:
        """Return the node's GPUs by PCI address, each with whether it is bound to the driver.

        ``None`` where the node does not show them. Needs no session and touches no hardware.
        """

    def survey(self) -> AbstractSet[str]:
        """Return the UUIDs of the GPUs that a new session could read; leave this one alone.

        Takes seconds. Raises :class:`GpuError` when that can't be found out.
        """
