"""Waits for the events of GPUs: each GPU is heard on a thread of its own."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from exporter.gpus import GpuError
from exporter.model.clocks import Monotonic
from exporter.model.readings import Event, Reason
from exporter.model.snapshot import SourceHealth
from exporter.sampling.errors import as_gpu_error, no_failures
from exporter.sampling.session import Session
from exporter.sampling.slots import Place, Ticks

_LOG: Final = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS: Final = 600.0
"""How often a GPU that reports no events is asked again."""


class Listening:
    """Waits for the events of each GPU that has been read in the session.

    A wait lasts at most ``event_wait`` seconds, because closing the session has to wait for it. One
    that lasts longer than that and the deadline hangs, and costs the events of its GPU.
    """

    def __init__(
        self,
        session: Session,
        *,
        ticks: Ticks,
        clock: Callable[[], Monotonic],
        on_events: Callable[[Sequence[Event]], None],
    ) -> None:
        self._session = session
        self._ticks = ticks
        self._clock = clock
        self._on_events = on_events
        self._failures = no_failures()
        self._message = ""

    def step(self, places: Iterable[Place], now: Monotonic) -> None:
        """Start the waits that are due, and note the ones that hang."""
        longest = self._ticks.event_wait + self._ticks.read_deadline
        for place in places:
            ear = place.ear
            if ear.waiting_since is None:
                self._wait(place, now)
            elif now - ear.waiting_since >= longest and ear.error is None:
                late = f"no answer in {self._ticks.read_deadline:g} s"
                self._failed(place, GpuError(Reason.TIMEOUT, late))

    def health(self, places: Iterable[Place], down: str) -> SourceHealth | None:
        """Say whether XIDs can be heard; ``None`` where nobody knows, or no GPU reports any.

        ``down``: why the driver is down; empty if it is up.
        """
        if down:
            return SourceHealth("events", up=False, message=down, failures=dict(self._failures))
        listed = [place for place in places if place.slot is not None]
        # A GPU that is away says so itself. That it is not heard then is no fault of its own.
        deaf = [
            f"GPU {place.number}: {place.ear.error}"
            for place in listed
            if place.ear.error is not None
            and place.ear.error.reason is not Reason.NOT_SUPPORTED
            and place.slot is not None
            and place.slot.is_ok
        ]
        if not deaf and not any(place.ear.has_heard for place in listed):
            return None
        return SourceHealth(
            "events", up=not deaf, message="; ".join(deaf), failures=dict(self._failures)
        )

    def _wait(self, place: Place, now: Monotonic) -> None:
        ear, reader = place.ear, place.reader
        if reader is None or not place.is_read or now < ear.due or not self._session.is_open:
            return
        ear.waiting_since = now
        ear.worker.submit(
            lambda: reader.wait_events(self._ticks.event_wait),
            lambda result: self._returned(place, result),
        )

    def _returned(self, place: Place, result: Sequence[Event] | Exception) -> None:
        ear, now = place.ear, self._clock()
        ear.waiting_since = None
        if self._session.driver is None:
            return  # it is about a driver that is gone
        if isinstance(result, Exception):
            error = as_gpu_error(result)
            self._failed(place, error)
            if error.reason.ends_session:
                self._session.lose(error)
            return
        ear.error, ear.has_heard = None, True
        self._on_events(result)
        self._wait(place, now)

    def _failed(self, place: Place, error: GpuError) -> None:
        ear = place.ear
        is_new = ear.error is None or str(ear.error) != str(error)
        ear.error = error
        never = error.reason is Reason.NOT_SUPPORTED
        ear.due = Monotonic(self._clock() + (_ASK_AGAIN_SECONDS if never else self._ticks.full))
        if not never:
            self._failures[error.reason] += 1
        if is_new:
            level = logging.INFO if never else logging.WARNING
            _LOG.log(level, "no events of GPU %d: %s", place.number, error)
