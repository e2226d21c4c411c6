"""The session with the driver: opened, closed, and opened again when it was lost."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from exporter.gpus import Backend, GpuError, Reader
from exporter.model.clocks import Monotonic
from exporter.model.devices import Driver
from exporter.model.readings import Reason
from exporter.model.snapshot import SourceHealth
from exporter.sampling.errors import as_gpu_error, fault, no_failures
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_SHORT_SECONDS: Final = 60.0
"""A session that was lost sooner than this was no good: the next one waits longer.

That is also the longest time that one waits.
"""


class _Phase(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    LEAVING = "leaving"
    """Calls are still under way that the session must not be closed under."""
    CLOSING = "closing"


_STUCK: Final[Mapping[_Phase, str]] = {
    _Phase.OPENING: "opening the driver",
    _Phase.LEAVING: "a read of a GPU whose driver is gone",
    _Phase.CLOSING: "closing the driver",
}


@dataclass(frozen=True, slots=True)
class Opened:
    """What a new session shows."""

    driver: Driver
    readers: Sequence[Reader]
    present: Mapping[str, bool] | None
    """See :meth:`~exporter.gpus.Backend.present`."""


class Session:
    """Keeps the backend open, and opens it again after the driver was away.

    - All calls of the driver itself run on ``worker``; calls on its GPUs do not.
    - Opening is tried again every ``retry`` seconds. So a driver that is loaded later is found, and
      so is a driver that was upgraded. After sessions that did not last, it waits longer.
    - Opening or closing that takes longer than ``deadline`` seconds counts as a failure.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        worker: Worker,
        retry: float,
        deadline: float,
        clock: Callable[[], Monotonic],
        on_open: Callable[[Opened], None],
        on_lost: Callable[[GpuError], None],
    ) -> None:
        self._backend = backend
        self._worker = worker
        self._retry = retry
        self._deadline = deadline
        self._clock = clock
        self._on_open = on_open
        self._on_lost = on_lost
        self._phase = _Phase.CLOSED
        self._since = Monotonic(-inf)
        """When the phase began."""
        self._opened_at = Monotonic(-inf)
        self._short_sessions = 0
        """How many of the last sessions did not last."""
        self._next_try = Monotonic(-inf)
        self._failures = no_failures()
        self._without_library_since: Monotonic | None = None
        self.driver: Driver | None = None
        self.error = GpuError(Reason.UNKNOWN, "not opened yet")
        """Why there is no driver, when there is none."""

    @property
    def is_open(self) -> bool:
        return self._phase is _Phase.OPEN

    @property
    def down(self) -> str:
        """Why the driver is down; empty if it is up."""
        return "" if self.driver is not None else str(self.error)

    def step(self, *, quiet: bool) -> None:
        """Open the session when that is due, or close it. ``quiet``: no other call is under way."""
        now = self._clock()
        if self._phase is _Phase.CLOSED:
            if now >= self._next_try:
                self._enter(_Phase.OPENING)
                self._next_try = Monotonic(now + self._retry)
                self._worker.submit(self._open, self._opened)
        elif self._phase is _Phase.LEAVING and quiet:
            self._enter(_Phase.CLOSING)
            self._worker.submit(self._backend.close, self._closed)
        elif self._phase is not _Phase.OPEN and now - self._since >= self._deadline:
            late = GpuError(Reason.TIMEOUT, f"no answer in {self._deadline:g} s")
            if self.down != str(late):
                self._failed(late)

    def lose(self, error: GpuError) -> None:
        """Note that the driver is gone: close the session once nothing uses it, then open it."""
        if self._phase is not _Phase.OPEN:
            return
        now = self._clock()
        self._short_sessions = (
            self._short_sessions + 1 if now - self._opened_at < _SHORT_SECONDS else 0
        )
        wait = min(_SHORT_SECONDS, self._retry * 2.0 ** (self._short_sessions - 1))
        self._next_try = Monotonic(now + wait if self._short_sessions else now)
        self._enter(_Phase.LEAVING)
        self._failed(error)

    def restart(self) -> None:
        """Open a new session at once, because it will show more. No call must hang meanwhile."""
        if self._phase is _Phase.OPEN:
            self._next_try = self._clock()
            self._enter(_Phase.LEAVING)

    def stuck(self) -> tuple[str, float]:
        """Return what has not come to an end, and for how many seconds; empty if nothing has.

        Nothing can be read until it does, and if it never does, only a new process helps.
        """
        what = _STUCK.get(self._phase, "")
        return what, self._clock() - self._since if what else 0.0

    def without_library_seconds(self) -> float:
        """Return for how many seconds the driver's library has been missing or does not match.

        0: neither. A container gets the library when it is made, so only a new container gets
        another one.
        """
        since = self._without_library_since
        return 0.0 if since is None else self._clock() - since

    def stop(self) -> None:
        """Let the thread end once its call has returned."""
        self._worker.stop()

    def health(self, duration: float | None) -> SourceHealth:
        """Return the health of the driver.

        ``duration``: how long the longest full reading took, in seconds.
        """
        up = self.driver is not None
        return SourceHealth(
            name=self._backend.name,
            up=up,
            message=self.down,
            duration_seconds=duration if up else None,
            failures=dict(self._failures),
        )

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self._clock()

    def _open(self) -> Opened:
        driver = self._backend.open()
        try:
            return Opened(driver, self._backend.readers(), self._backend.present())
        except BaseException:
            self._backend.close()
            raise

    def _opened(self, result: Opened | Exception) -> None:
        if isinstance(result, Exception):
            self._enter(_Phase.CLOSED)
            self._failed(as_gpu_error(result))
            return
        self._enter(_Phase.OPEN)
        self._opened_at = self._since
        if self.driver != result.driver:
            _LOG.info(
                "driver is open",
                extra={"version": result.driver.version, "gpus": len(result.readers)},
            )
        self.driver = result.driver
        self._without_library_since = None
        self._on_open(result)

    def _closed(self, result: Exception | None) -> None:
        if isinstance(result, Exception):
            _LOG.error("the driver could not be closed", exc_info=result)
        self._enter(_Phase.CLOSED)
        self.step(quiet=True)

    def _failed(self, error: GpuError) -> None:
        self._failures[error.reason] += 1
        if error.reason not in {Reason.LIBRARY_NOT_FOUND, Reason.LIBRARY_MISMATCH}:
            self._without_library_since = None
        elif self._without_library_since is None:
            self._without_library_since = self._clock()
        if self.down != str(error):
            _LOG.warning(
                "driver is down: %s", error, extra={"reason": error.reason}, exc_info=fault(error)
            )
        self.driver, self.error = None, error
        self._on_lost(error)
