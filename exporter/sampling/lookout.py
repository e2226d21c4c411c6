"""Looks for GPUs that a new session with the driver would show, without closing this one."""

import logging
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from exporter.gpus import Backend, GpuError
from exporter.model.clocks import Monotonic
from exporter.model.snapshot import GpuState
from exporter.sampling.errors import as_gpu_error
from exporter.sampling.session import Session
from exporter.sampling.slots import Ticks
from exporter.sampling.visits import Visits
from exporter.sampling.worker import Worker

_LOG: Final = logging.getLogger(__name__)

_LOOK_FULL_TICKS: Final = 9
"""How often to look, in full ticks: with the defaults every 45 s, so that a GPU is found within a
minute. A survey costs a tenth of a second of CPU."""
_LONGEST_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class _Look:
    present: Mapping[str, bool] | None
    readable: AbstractSet[str] | None
    """``None``: there was no reason for a survey."""


class Lookout:
    """Finds out whether a new session would show more, and only then has one opened.

    A session lists the GPUs that were there when it began. There is reason for a survey while a GPU
    is away, when other GPUs are on the node's PCI bus than before, and when ``hint`` has another
    value, such as the claims that match no known GPU. A survey runs elsewhere: it may hang.

    A GPU that a survey could read, and the new session then could not, is not worth another
    session soon: each time it is given twice as long.
    """

    def __init__(
        self,
        backend: Backend,
        session: Session,
        visits: Visits,
        *,
        worker: Worker,
        ticks: Ticks,
        clock: Callable[[], Monotonic],
        hint: Callable[[], object],
    ) -> None:
        self._backend = backend
        self._session = session
        self._visits = visits
        self._worker = worker
        self._period = _LOOK_FULL_TICKS * ticks.full
        self._clock = clock
        self._hint = hint
        self._hint_seen = hint()
        self._is_looking = False
        self._due = Monotonic(clock() + self._period)
        self._present: Mapping[str, bool] | None = None
        self._waits: dict[str, tuple[float, Monotonic]] = {}
        """GPUs for which a session was opened: how long to wait for the next, and until when."""
        self._message = ""

    def step(self, now: Monotonic) -> None:
        """Look, when that is due."""
        if self._is_looking or now < self._due or not self._session.is_open or self._visits.hangs:
            return
        self._due = Monotonic(now + self._period)
        if not any(place.reader for place in self._visits.places):
            self._session.restart()  # there is nothing to lose
            return
        hint, present = self._hint(), self._present
        wanted = hint != self._hint_seen or any(
            not slot.is_ok and slot.tracker.state is not GpuState.REMOVED
            for slot in self._visits.slots.values()
        )
        self._hint_seen, self._is_looking = hint, True
        self._worker.submit(lambda: self._look(present, wanted=wanted), self._looked)

    def opened(self, present: Mapping[str, bool] | None) -> None:
        """Take what a new session found on the PCI bus."""
        self._present = present

    def stop(self) -> None:
        """Let the thread end once its call has returned."""
        self._worker.stop()

    def _look(self, before: Mapping[str, bool] | None, *, wanted: bool) -> _Look:
        present = self._backend.present()
        wanted = wanted or present != before
        return _Look(present, self._backend.survey() if wanted else None)

    def _looked(self, result: _Look | Exception) -> None:
        self._is_looking = False
        if isinstance(result, Exception):
            self._log(as_gpu_error(result))
            return
        self._message = ""
        self._present = result.present
        self._visits.present(result.present)
        readable = {uuid for uuid, slot in self._visits.slots.items() if slot.is_ok}
        self._waits = {uuid: w for uuid, w in self._waits.items() if uuid not in readable}
        now = self._clock()
        new = [
            uuid
            for uuid in (result.readable or set()) - readable
            if now >= self._waits.get(uuid, (0.0, now))[1]
        ]
        if not new or self._visits.hangs or not self._session.is_open:
            return
        for uuid in new:
            wait = min(_LONGEST_SECONDS, 2 * self._waits.get(uuid, (self._period, now))[0])
            self._waits[uuid] = wait, Monotonic(now + wait)
        _LOG.info("a new session with the driver will show more", extra={"uuids": sorted(new)})
        self._session.restart()

    def _log(self, error: GpuError) -> None:
        if str(error) != self._message:
            self._message = str(error)
            _LOG.warning(
                "whether there are other GPUs can't be found out: %s",
                error,
                extra={"reason": error.reason},
            )
