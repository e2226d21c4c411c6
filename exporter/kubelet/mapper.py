"""Keeps the claims of a node fresh, and gives them up when they no longer are."""

import asyncio
import logging
import math
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from exporter.kubelet.client import KubeletError, KubeletFailure, Listing, PodResourcesClient
from exporter.kubelet.witness import (
    NoWitness,
    PodWitness,
    all_advertised,
    pods_of,
    select,
    with_survivors,
)
from exporter.model.claims import Claims, PodName
from exporter.model.clocks import Monotonic, monotonic
from exporter.model.snapshot import SourceHealth

_LOG = logging.getLogger(__name__)

_BACK_OFF_CAP_SECONDS: Final = 30.0
_RECONNECT_SECONDS: Final = 1.0
# Nobody is there whom a pause would spare, and a restarted kubelet has to be noticed at once.
_ABSENT: Final = {
    KubeletFailure.SOCKET_MISSING,
    KubeletFailure.UNAVAILABLE,
    KubeletFailure.NOT_READY,
}
_SETTLING_SECONDS: Final = 10.0
"""For which the answers of a kubelet that has started are not complete, also if it lists us."""
_INTRODUCTION_SECONDS: Final = 5.0
"""For which a claim waits at most until it is known whose pod it is."""
_HURRIES: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Pauses between questions, in seconds, while a pod that wants devices has none yet."""
_LEAST_REST: Final = 10.0
"""Rest after a question, in times that the question took: a full node's answer is 20 MB."""


@dataclass(slots=True)
class _Expectation:
    """A pod that should get devices now."""

    succeeds: bool
    """Whether another pod of its name had devices: an answer may still mean that pod."""
    asked: int = 0
    """How often the kubelet was asked since."""


class Mapper:
    """Refreshes the claims every ``period_seconds``, and when a pod is expected to have some.

    When a refresh fails, the last claims stand for ``grace_seconds`` after the refresh was due, and
    then there are none. A kubelet that answers with errors is asked ever less often, down to once
    in 30 s. A kubelet that is not there is looked for every second.

    The first answers of a kubelet that has started are not complete. A kubelet that has listed the
    pod that asks, and does not list it now, is not ready: that is a failure like any other. In the
    10 s after the kubelet started, or in ``grace_seconds`` if the pod that asks is not known, a
    claim does not vanish only because an answer lacks it: ``witness`` has to say that the pod is
    gone, or another container has to have the device.

    A pod that ``witness`` knows to have ended has no claims, though a kubelet may list them. A new
    claim of a pod that ``witness`` does not know yet is kept back, for 5 s at most.
    """

    def __init__(
        self,
        client: PodResourcesClient,
        *,
        period_seconds: float = 5.0,
        grace_seconds: float = 60.0,
        witness: PodWitness | None = None,
        clock: Callable[[], Monotonic] = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._period_seconds = period_seconds
        self._grace_seconds = grace_seconds
        self._witness = witness or NoWitness()
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._claims: Claims | None = None
        self._served: Claims | None = None
        self._stands_until = -math.inf
        self._allocatable_stands_until = -math.inf
        self._first_seen: dict[PodName, Monotonic] = {}
        self._server: object = None
        self._lists_us = False
        """Whether the kubelet has ever listed the pod that asks."""
        self._settled_from = -math.inf
        self._expected: dict[PodName, _Expectation] = {}
        self._hurry = asyncio.Event()
        self._failures_in_row = 0
        self._failures: dict[str, int] = dict.fromkeys(KubeletFailure, 0)
        self._duration_seconds: float | None = None
        self._up = False
        self._reason: KubeletFailure | None = None
        self._message = "not asked yet"

    def claims(self, now: Monotonic) -> Claims | None:
        """Return the claims that stand at ``now``.

        The same object is returned for as long as nothing changes. ``None``: nothing is known, or
        not recently enough.
        """
        if self._claims is None or now > self._stands_until:
            return None
        found = select(self._claims, lambda pod: self._has_devices(pod, now))
        if found != self._served:
            self._served = found
        return self._served

    def expect(self, pod: PodName, *, new: bool) -> None:
        """Ask the kubelet soon, unless it has said already what devices ``pod`` has.

        To be called when a pod that wants devices has been bound to the node (``new``) or changes.
        """
        known = pod in self._first_seen
        if new or not known:
            self._expected[pod] = _Expectation(succeeds=known)
            self._hurry.set()

    def health(self) -> SourceHealth:
        return SourceHealth(
            name="kubelet",
            up=self._up,
            message=self._message,
            duration_seconds=self._duration_seconds,
            failures=dict(self._failures),
        )

    async def run(self) -> NoReturn:
        """Refresh until cancelled."""
        while True:
            self._hurry.clear()
            pause_seconds = await self.refresh_once()
            await self._rest(pause_seconds)

    async def refresh_once(self) -> float:
        """Ask the kubelet now; return in how many seconds to ask again. Failures go to health."""
        started = self._clock()
        try:
            listing = await self._client.listing()
            self._check(listing)
        except KubeletError as error:
            self._failures_in_row += 1
            self._failures[error.reason] += 1
            self._set_health(error, up=False)
            return self._back_off_seconds(error.reason)
        finally:
            self._duration_seconds = self._clock() - started
        self._failures_in_row = 0
        if self._claims and listing.server != self._server:
            unknown = 0.0 if listing.lists_us else self._grace_seconds
            self._settled_from = self._clock() + max(_SETTLING_SECONDS, unknown)
        self._server = listing.server
        self._keep(listing.claims)
        self._set_health(await self._refresh_allocatable(), up=True)
        return self._pause_seconds()

    def _check(self, listing: Listing) -> None:
        """Raise :class:`KubeletError` if the kubelet is not ready."""
        if self._lists_us and not listing.lists_us:
            raise KubeletError(
                KubeletFailure.NOT_READY,
                "the kubelet does not list the exporter's own pod yet: it has just started",
            )
        self._lists_us = listing.lists_us

    async def _refresh_allocatable(self) -> KubeletError | None:
        if self._claims is None:
            return None
        before, error = self._claims.allocatable, None
        try:
            found = await self._client.allocatable()
        except KubeletError as raised:
            error = raised
            self._failures[error.reason] += 1
            found = before if self._clock() <= self._allocatable_stands_until else None
        else:
            self._allocatable_stands_until = self._standing()
            if self._settling:
                found = all_advertised(found, before)
        if found != before:
            self._claims = replace(self._claims, allocatable=found)
        return error

    def _keep(self, answer: Claims) -> None:
        """Have ``answer`` stand from now on, each claim with the time of its first sight."""
        before, now = self._claims or Claims(), self._clock()
        if self._settling:
            answer = with_survivors(answer, before, self._witness)
        since = {claim: claim.since for claim in before.held}
        claims = replace(
            answer,
            held=tuple(replace(claim, since=since.get(claim, now)) for claim in answer.held),
            allocatable=before.allocatable,
        )
        if claims != self._claims:
            self._claims = claims
        self._stands_until = self._standing()
        self._first_seen = {pod: self._first_seen.get(pod, now) for pod in pods_of(claims)}
        for pod, expected in list(self._expected.items()):
            expected.asked += 1
            has_devices = pod in self._first_seen and not expected.succeeds
            if has_devices or expected.asked > len(_HURRIES):
                del self._expected[pod]

    def _has_devices(self, pod: PodName, now: Monotonic) -> bool:
        if self._witness.has_ended(pod):
            return False
        waited = now - self._first_seen[pod]
        return waited >= _INTRODUCTION_SECONDS or self._witness.knows(pod)

    @property
    def _settling(self) -> bool:
        """Whether the kubelet has started a moment ago."""
        return self._clock() < self._settled_from

    def _standing(self) -> float:
        """Return until when stands what is known now."""
        return self._clock() + self._period_seconds + self._grace_seconds

    async def _rest(self, pause_seconds: float) -> None:
        """Wait until it is time to ask again, or a pod is expected to have devices."""
        rest = pause_seconds
        if self._up:
            rest = min(rest, max(_HURRIES[0], _LEAST_REST * (self._duration_seconds or 0.0)))
        await asyncio.sleep(rest)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_seconds - rest):
                await self._hurry.wait()

    def _pause_seconds(self) -> float:
        """Return how long to wait after an answer."""
        pauses = [self._period_seconds]
        pauses += [_HURRIES[expected.asked - 1] for expected in self._expected.values()]
        if self._settling:
            pauses.append(_RECONNECT_SECONDS)
        return min(pauses)

    def _back_off_seconds(self, reason: KubeletFailure) -> float:
        """Spread over half of the pause, so that a cluster's nodes do not move in step."""
        if reason in _ABSENT:
            longest = min(_RECONNECT_SECONDS, self._period_seconds)
        else:
            doublings = min(self._failures_in_row - 1, 10)
            cap = max(_BACK_OFF_CAP_SECONDS, self._period_seconds)
            longest = min(cap, self._period_seconds * 2**doublings)
        return self._rng.uniform(longest / 2, longest)

    def _set_health(self, error: KubeletError | None, *, up: bool) -> None:
        """Update health, and log a change: the same trouble is logged once."""
        reason = error.reason if error else None
        if (up, reason) != (self._up, self._reason):
            if error is None:
                _LOG.info("the kubelet answers")
            else:
                _LOG.warning("%s", error)
        self._up, self._reason = up, reason
        self._message = str(error) if error else ""
