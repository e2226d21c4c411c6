"""Keeps the claims of a node fresh, and gives them up when they no longer are."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NoReturn

from exporter.kubelet.client import KubeletError, KubeletFailure, PodResourcesClient
from exporter.model.claims import Claims
from exporter.model.clocks import Monotonic, monotonic
from exporter.model.snapshot import SourceHealth

_LOG = logging.getLogger(__name__)

_REFRESHES_PER_ALLOCATABLE: Final = 12
_BACK_OFF_CAP_SECONDS: Final = 30.0
_RECONNECT_SECONDS: Final = 1.0
# Nobody is there whom a pause would spare, and a restarted kubelet has to be noticed at once.
_ABSENT: Final = {KubeletFailure.SOCKET_MISSING, KubeletFailure.UNAVAILABLE}


class Mapper:
    """Refreshes the claims every ``period_seconds``.

    When a refresh fails, the last claims stand for ``grace_seconds`` after the refresh was due, and
    then there are none. A kubelet that answers with errors is asked ever less often, down to once
    in 30 s. A kubelet that is not there is looked for every second.

    Devices are advertised for months. So the allocatable devices are asked for with every 12th
    refresh only, after an error, and until they are known. They never hold up the claims.
    """

    def __init__(
        self,
        client: PodResourcesClient,
        *,
        period_seconds: float = 5.0,
        grace_seconds: float = 60.0,
        clock: Callable[[], Monotonic] = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._client = client
        self._period_seconds = period_seconds
        self._grace_seconds = grace_seconds
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._claims: Claims | None = None
        self._stands_until = -math.inf
        self._allocatable: Mapping[str, tuple[str, ...]] | None = None
        self._allocatable_stands_until = -math.inf
        self._until_allocatable = 0
        self._failures_in_row = 0
        self._failures: dict[str, int] = dict.fromkeys(KubeletFailure, 0)
        self._duration_seconds: float | None = None
        self._up = False
        self._reason: KubeletFailure | None = None
        self._message = "not asked yet"

    def claims(self, now: Monotonic) -> Claims | None:
        """Return the claims that stand at ``now``.

        The same object is returned for as long as the kubelet's answer stays the same. ``None``:
        nothing is known, or not recently enough.
        """
        return self._claims if now <= self._stands_until else None

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
            pause_seconds = await self.refresh_once()
            await asyncio.sleep(pause_seconds)

    async def refresh_once(self) -> float:
        """Ask the kubelet now; return in how many seconds to ask again. Failures go to health."""
        started = self._clock()
        try:
            claims = await self._client.claims()
        except KubeletError as error:
            self._until_allocatable = 0
            self._failures_in_row += 1
            self._failures[error.reason] += 1
            self._set_health(error, up=False)
            return self._pause_seconds(error.reason)
        finally:
            self._duration_seconds = self._clock() - started
        self._failures_in_row = 0
        self._keep(claims)
        self._set_health(await self._refresh_allocatable(), up=True)
        self._keep(claims)
        return self._period_seconds

    async def _refresh_allocatable(self) -> KubeletError | None:
        self._until_allocatable -= 1
        if self._until_allocatable > 0:
            return None
        try:
            self._allocatable = await self._client.allocatable()
        except KubeletError as error:
            self._failures[error.reason] += 1
            if self._clock() > self._allocatable_stands_until:
                self._allocatable = None
            return error
        self._until_allocatable = _REFRESHES_PER_ALLOCATABLE
        self._allocatable_stands_until = (
            self._clock() + _REFRESHES_PER_ALLOCATABLE * self._period_seconds + self._grace_seconds
        )
        return None

    def _keep(self, claims: Claims) -> None:
        """Have ``claims`` stand from now on, each with the time at which it was first seen."""
        now = self._clock()
        since = {claim: claim.since for claim in self._claims.held} if self._claims else {}
        claims = replace(
            claims,
            held=tuple(replace(claim, since=since.get(claim, now)) for claim in claims.held),
            allocatable=self._allocatable,
        )
        if claims != self._claims:
            self._claims = claims
        self._stands_until = now + self._period_seconds + self._grace_seconds

    def _pause_seconds(self, reason: KubeletFailure) -> float:
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
