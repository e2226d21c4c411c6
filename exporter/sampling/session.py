"""The session with the driver: opened, watched for events, and opened again when it was lost."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from exporter.gpus import Backend, GpuError, Reader
from exporter.model.clocks import Monotonic
from exporter.model.devices import Driver
from exporter.model.readings import Event, Reason
from exporter.model.snapshot import SourceHealth
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)


class _Phase(Enum):
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class _Opened:
    driver: Driver
    readers: Sequence[Reader]


class Session:
    """Keeps the backend open, and opens it again after the driver was away.

    - Calls that may block run on the worker ``driver``, and waits for events on ``events``.
    - Opening is tried again every ``retry`` seconds. So a driver that is loaded later is found, and
      so is a driver that was upgraded.
    - Opening or closing that takes longer than ``deadline`` seconds counts as a failure.
    - A wait for events lasts at most ``event_wait`` seconds, because closing has to wait for it.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        driver: Worker,
        events: Worker,
        retry: float,
        deadline: float,
        event_wait: float,
        clock: Callable[[], Monotonic],
        on_open: Callable[[Sequence[Reader]], None],
        on_lost: Callable[[GpuError], None],
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        self._backend = backend
        self._driver_worker = driver
        self._event_worker = events
        self._retry = retry
        self._deadline = deadline
        self._event_wait = event_wait
        self._clock = clock
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_events = on_events
        self._phase = _Phase.CLOSED
        self._since = Monotonic(0.0)
        """When the phase began."""
        self._next_try = Monotonic(-inf)
        self._failures = _no_failures()
        self._message = "not opened yet"
        self._without_library_since: Monotonic | None = None
        self.driver: Driver | None = None
        self._waiting_since: Monotonic | None = None
        self._event_failures = _no_failures()
        self._event_message = ""

    @property
    def is_open(self) -> bool:
        return self._phase is _Phase.OPEN

    def step(self, *, quiet: bool) -> None:
        """Open the session when that is due, or close it. ``quiet``: no read is under way."""
        if self._phase is _Phase.OPEN:
            self._watch_events()
        elif self._phase is _Phase.CLOSED:
            if self._clock() >= self._next_try:
                self._submit(self._open)
        elif self._phase is _Phase.CLOSING and quiet and self._waiting_since is None:
            self._submit(self._reopen)  # to close and to open again are one job
        elif self._clock() - self._since >= self._deadline and self._message != self._late:
            self._down(GpuError(Reason.TIMEOUT, self._late))

    def lose(self, error: GpuError) -> None:
        """Note that the driver is gone: close the session once nothing uses it, then open it."""
        if self._phase is _Phase.OPEN:
            self._enter(_Phase.CLOSING)
            self._down(error)

    def restart(self) -> None:
        """Open a new session, because a GPU that went away comes back only to a new one."""
        if self._phase is _Phase.OPEN and not self._events_hang():
            self._enter(_Phase.CLOSING)

    def stuck_seconds(self) -> float:
        """Return for how many seconds closing has waited for calls that do not return.

        0: closing does not wait. Nothing can be read until the calls return, and if they never do,
        only a new process helps.
        """
        return self._clock() - self._since if self._phase is _Phase.CLOSING else 0.0

    def without_library_seconds(self) -> float:
        """Return for how many seconds the driver's library has been missing or does not match.

        0: neither. A container gets the library when it is made, so only a new container gets
        another one.
        """
        since = self._without_library_since
        return 0.0 if since is None else self._clock() - since

    def stop(self) -> None:
        """Let each thread end once its call has returned."""
        self._driver_worker.stop()
        self._event_worker.stop()

    def health(self, duration: float | None) -> Sequence[SourceHealth]:
        """Return the health of the driver and of its events. Events may fail alone.

        ``duration``: how long the longest full reading took, in seconds.
        """
        up = self.driver is not None
        return (
            SourceHealth(
                name=self._backend.name,
                up=up,
                message="" if up else self._message,
                duration_seconds=duration if up else None,
                failures=dict(self._failures),
            ),
            SourceHealth(
                name="events",
                up=up and not self._event_message,
                message=self._event_message or ("" if up else self._message),
                failures=dict(self._event_failures),
            ),
        )

    @property
    def _late(self) -> str:
        return f"no answer in {self._deadline:g} s"

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._since = phase, self._clock()

    def _submit(self, job: Callable[[], _Opened]) -> None:
        self._enter(_Phase.OPENING)
        self._next_try = Monotonic(self._since + self._retry)
        self._driver_worker.submit(job, self._opened)

    def _open(self) -> _Opened:
        driver = self._backend.open()
        try:
            return _Opened(driver, self._backend.readers())
        except BaseException:
            self._backend.close()
            raise

    def _reopen(self) -> _Opened:
        self._backend.close()
        return self._open()

    def _opened(self, result: _Opened | Exception) -> None:
        if isinstance(result, Exception):
            self._enter(_Phase.CLOSED)
            self._down(_as_gpu_error(result))
            return
        self._enter(_Phase.OPEN)
        if self.driver != result.driver:
            _LOG.info(
                "driver is open",
                extra={"version": result.driver.version, "gpus": len(result.readers)},
            )
        self.driver, self._message = result.driver, ""
        self._without_library_since = None
        self._on_open(result.readers)
        if self._waiting_since is None:
            self._wait_events()

    def _down(self, error: GpuError) -> None:
        self._failures[error.reason] += 1
        if error.reason not in {Reason.LIBRARY_NOT_FOUND, Reason.LIBRARY_MISMATCH}:
            self._without_library_since = None
        elif self._without_library_since is None:
            self._without_library_since = self._clock()
        message = str(error)
        if self.driver is not None or message != self._message:
            _LOG.warning("driver is down: %s", message, extra={"reason": error.reason})
        self.driver, self._message = None, message
        self._on_lost(error)

    def _watch_events(self) -> None:
        """Make sure that a wait for events is under way, and note a wait that does not end."""
        if self._waiting_since is None:
            self._wait_events()
        elif self._events_hang() and self._event_message != self._late:
            self._events_failed(GpuError(Reason.TIMEOUT, self._late))

    def _events_hang(self) -> bool:
        longest = self._event_wait + self._deadline
        return self._waiting_since is not None and self._clock() - self._waiting_since >= longest

    def _wait_events(self) -> None:
        self._waiting_since = self._clock()
        self._event_worker.submit(
            lambda: self._backend.wait_events(self._event_wait), self._got_events
        )

    def _got_events(self, result: Sequence[Event] | Exception) -> None:
        self._waiting_since = None
        if isinstance(result, Exception):
            error = _as_gpu_error(result)
            self._events_failed(error)
            if error.reason.ends_session:
                self.lose(error)
            return
        self._event_message = ""
        self._on_events(result)
        if self._phase is _Phase.OPEN:
            self._wait_events()

    def _events_failed(self, error: GpuError) -> None:
        self._event_failures[error.reason] += 1
        if str(error) != self._event_message:
            self._event_message = str(error)
            _LOG.warning("events can't be read: %s", error, extra={"reason": error.reason})


def _no_failures() -> Counter[str]:
    """Count from 0, because ``increase()`` misses the event that a counter begins with."""
    return Counter(dict.fromkeys((r for r in Reason if r is not Reason.NOT_SUPPORTED), 0))


def _as_gpu_error(error: Exception) -> GpuError:
    if isinstance(error, GpuError):
        return error
    _LOG.error("backend failed", exc_info=error)
    return GpuError(Reason.UNKNOWN, f"{type(error).__name__}: {error}")
