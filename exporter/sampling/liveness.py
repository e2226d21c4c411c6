"""Whether a new container would help: the only question that a liveness probe should answer."""

from collections.abc import Callable, Mapping
from typing import Final

from exporter.model.clocks import Monotonic
from exporter.model.readings import Reason
from exporter.model.snapshot import GpuState
from exporter.sampling.session import Session
from exporter.sampling.visits import Visits

_STUCK_SECONDS: Final = 60.0
"""A call of the driver that has not returned in this time never will."""
_WITHOUT_ACCESS_SECONDS: Final = 300.0
"""After this time without access to any GPU, the container has to be made again.

The container's device nodes may be gone from its cgroup, as after ``systemctl daemon-reload``. The
driver then refuses every call, and never says why.
"""
_WITHOUT_LIBRARY_SECONDS: Final = 660.0
"""After this time without the driver's library, the container has to be made again.

A container that was made before the library was on its node never gets it. The kubelet forgets its
back-off after ten minutes, so one restart in this time does not delay the next.
"""
_STALLED_SECONDS: Final = 10.0
"""The least time without a step after which the sampling loop counts as dead."""
_REFUSED: Final = frozenset({Reason.NO_PERMISSION, Reason.UNKNOWN})
"""What NVML answers when the kernel refuses to open a device node."""


class Liveness:
    """Watches for what only a new process, or only a new container, can mend.

    ``fast`` is the period of steps, in seconds.
    """

    def __init__(
        self, session: Session, visits: Visits, *, clock: Callable[[], Monotonic], fast: float
    ) -> None:
        self._session = session
        self._visits = visits
        self._clock = clock
        self._stalled = max(_STALLED_SECONDS, 3 * fast)
        self._stepped = clock()
        self._has_worked = False
        self._refused_since: Monotonic | None = None

    def step(self, now: Monotonic) -> None:
        """Note that the sampling loop lives, and whether any GPU can be read."""
        self._stepped = now
        slots = self._visits.slots.values()
        if any(slot.is_ok and slot.tracker.identified for slot in slots):
            self._has_worked, self._refused_since = True, None
            return
        reasons = {
            slot.error.reason
            for slot in slots
            if slot.error is not None and slot.tracker.state is not GpuState.REMOVED
        }
        if self._session.down:
            reasons.add(self._session.error.reason)
        if not self._has_worked or not reasons or not reasons <= _REFUSED:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now

    def dead(self, advertised: Mapping[str, int]) -> str:
        """Return why only a new process would help; an empty string if the program is alive.

        ``advertised``: the devices that the kubelet has, by resource. Without any, nothing can be
        missed.
        """
        now = self._clock()
        if (since := now - self._stepped) >= self._stalled:
            return f"no sampling step for {since:.0f} s"
        what, stuck = self._session.stuck()
        if what and stuck >= _STUCK_SECONDS:
            return f"{what} has hung for {stuck:.0f} s, and nothing can be read"
        if not any(advertised.values()):
            return ""
        refused = 0.0 if self._refused_since is None else now - self._refused_since
        if refused >= _WITHOUT_ACCESS_SECONDS:
            return (
                f"the driver has refused access to every GPU for {refused:.0f} s, while the kubelet"
                " advertises GPUs: a container gets its device nodes when it is made"
            )
        missing = self._session.without_library_seconds()
        if missing >= _WITHOUT_LIBRARY_SECONDS:
            return (
                f"the driver's library has been missing for {missing:.0f} s, while the kubelet"
                " advertises GPUs: a container gets the library when it is made"
            )
        return ""
