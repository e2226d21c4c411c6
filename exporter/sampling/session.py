"""The driver: opened, watched for events, opened again when it went away."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from exporter.gpus import Backend, GpuError, Reader
from exporter.model.devices import Driver
from exporter.model.readings import Event, Reason
from exporter.model.snapshot import SourceHealth
from exporter.sampling.worker import Worker

log = logging.getLogger(__name__)


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
    """Keeps the backend open. Calls that may block run on ``driver``, event waits on ``events``.

    Opening is tried again every ``retry`` seconds, so that a driver which is loaded later, or
    upgraded under us, is picked up; one that does not answer by ``deadline`` counts as down. A wait
    for events lasts ``event_wait`` seconds at most, for closing has to wait for it.
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
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_events = on_events
        self._phase = _Phase.CLOSED
        self._next_try = 0.0
        self._opening_since: float | None = None
        self._waiting_for_events = False
        self._event_error = ""
        self._failures: Counter[str] = Counter()
        self._message = "not opened yet"
        self.driver: Driver | None = None

    @property
    def is_open(self) -> bool:
        return self._phase is _Phase.OPEN

    def step(self, now: float, *, quiet: bool) -> None:
        """Move on: open when due, close when ``quiet``, that is, when no read is under way."""
        if self._phase is _Phase.CLOSED and now >= self._next_try:
            self._submit(self._open, now)
        elif self._phase is _Phase.CLOSING and quiet and not self._waiting_for_events:
            self._submit(self._reopen, now)  # closing and opening again are one job
        elif self._opening_since is not None and now - self._opening_since >= self._deadline:
            self._opening_since = None  # told once; it may still come
            self._down(GpuError(Reason.TIMEOUT, f"no answer in {self._deadline:g} s"))
        elif self._phase is _Phase.OPEN and not self._waiting_for_events:
            self._wait_events()  # the last wait failed

    def lose(self, error: GpuError) -> None:
        """Note that the driver is gone: close it once nothing uses it, then open it again."""
        if self._phase is _Phase.OPEN:
            self._phase = _Phase.CLOSING
            self._down(error)

    def restart(self) -> None:
        """Open the driver anew, for a GPU that went away comes back only to a new session."""
        if self._phase is _Phase.OPEN:
            self._phase = _Phase.CLOSING

    def stop(self) -> None:
        """Let both threads end once their call returns."""
        self._driver_worker.stop()
        self._event_worker.stop()

    def health(self, duration: float | None) -> SourceHealth:
        return SourceHealth(
            name=self._backend.name,
            up=self.driver is not None,
            message="" if self.driver else self._message,
            duration_seconds=duration,
            failures=dict(self._failures),
        )

    def _submit(self, job: Callable[[], _Opened], now: float) -> None:
        self._phase = _Phase.OPENING
        self._opening_since = now
        self._next_try = now + self._retry
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
        self._opening_since = None
        if isinstance(result, Exception):
            self._phase = _Phase.CLOSED
            self._down(_as_gpu_error(result))
            return
        self._phase = _Phase.OPEN
        if self.driver != result.driver:
            log.info(
                "driver is open",
                extra={"version": result.driver.version, "gpus": len(result.readers)},
            )
        self.driver, self._message = result.driver, ""
        self._on_open(result.readers)
        self._wait_events()

    def _down(self, error: GpuError) -> None:
        self._failures[error.reason] += 1
        message = str(error)
        if self.driver is not None or message != self._message:
            log.warning("driver is down: %s", message, extra={"reason": error.reason})
        self.driver, self._message = None, message
        self._on_lost(error)

    def _wait_events(self) -> None:
        self._waiting_for_events = True
        self._event_worker.submit(
            lambda: self._backend.wait_events(self._event_wait), self._got_events
        )

    def _got_events(self, result: Sequence[Event] | Exception) -> None:
        self._waiting_for_events = False
        if isinstance(result, Exception):
            error = _as_gpu_error(result)
            if error.reason.ends_session:
                self.lose(error)
                return
            self._failures[error.reason] += 1
            if str(error) != self._event_error:
                self._event_error = str(error)
                log.warning("events can't be read: %s", error, extra={"reason": error.reason})
            return
        self._event_error = ""
        self._on_events(result)
        if self._phase is _Phase.OPEN:
            self._wait_events()


def _as_gpu_error(error: Exception) -> GpuError:
    if isinstance(error, GpuError):
        return error
    log.error("backend failed", exc_info=error)
    return GpuError(Reason.UNKNOWN, f"{type(error).__name__}: {error}")
