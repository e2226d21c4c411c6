"""Posts Kubernetes Events on pods, for their owners to see."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s
from typing import Any, Final, NoReturn

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.failures import ApiError, ApiFailure
from exporter.model.pods import Termination
from exporter.model.snapshot import SourceHealth

_LOG = logging.getLogger(__name__)

_COMPONENT: Final = "kube-gpu-exporter"
_LONGEST_MESSAGE: Final = 1024
_LONGEST_NAME: Final = 253
_WAITING_LIMIT: Final = 100
_ATTEMPTS: Final = 20
"""Times that an event is tried: for eight minutes, if nothing works meanwhile."""
_LONGEST_BACK_OFF: Final = 30
"""Times the first back-off."""
_TIMEOUT_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Waiting:
    """An event to be posted."""

    path: str
    event: Mapping[str, Any]
    attempts: int = 0


class EventWriter:
    """Posts core/v1 Events of type Warning, which ``kubectl describe pod`` shows.

    An event's name derives from the termination that the event is about. So a termination that is
    reported twice, for instance after a restart of the exporter, gives one event. Posting takes the
    right to create events in all namespaces. Without the right no event is posted; health and one
    log line say so.

    An event that fails, for whatever reason, is tried again after the others, because nobody can
    know how long the reason lasts. A server that starts answers 403 for a second.
    """

    def __init__(
        self,
        access: ApiAccess,
        node: str,
        *,
        back_off_seconds: float = 1.0,
        rng: random.Random | None = None,
    ) -> None:
        self._access = access
        self._node = node
        self._back_off_seconds = back_off_seconds
        self._rng = rng or random.SystemRandom()
        self._waiting: deque[_Waiting] = deque(maxlen=_WAITING_LIMIT)
        self._failures_in_row = 0
        self._some = asyncio.Event()
        self._failures: dict[str, int] = dict.fromkeys(ApiFailure, 0)
        self._error: ApiError | None = None

    def post(self, termination: Termination, reason: str, message: str) -> None:
        """Have an event posted soon. If 100 events wait already, the oldest is given up.

        ``reason`` is a word such as ``GPUOutOfMemory``. ``message`` is cut after 1024 characters.
        """
        event = self._event(termination, reason, message)
        namespace = termination.container.namespace
        self._waiting.append(_Waiting(f"/api/v1/namespaces/{namespace}/events", event))
        self._some.set()

    def health(self) -> SourceHealth:
        return SourceHealth(
            name="kubernetes_events",
            up=self._error is None,
            message=str(self._error or ""),
            failures=dict(self._failures),
        )

    async def run(self) -> NoReturn:
        """Post events until cancelled."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                pause_seconds = await self._post(self._waiting.popleft())
                await asyncio.sleep(pause_seconds)

    async def _post(self, waiting: _Waiting) -> float:
        """Try to post an event; return in how many seconds to go on."""
        try:
            async with self._access.ask(
                "POST", waiting.path, body=waiting.event, timeout_seconds=_TIMEOUT_SECONDS
            ) as content:
                await content.read()
        except ApiError as error:
            if error.reason is not ApiFailure.CONFLICT:  # else it is there already
                return self._failed(waiting, error)
        self._error, self._failures_in_row = None, 0
        return 0.0

    def _failed(self, waiting: _Waiting, error: ApiError) -> float:
        self._failures[error.reason] += 1
        if self._error is None or self._error.reason is not error.reason:
            _LOG.warning("no event posted: %s", error)
        self._error = error
        waiting.attempts += 1
        if waiting.attempts < _ATTEMPTS:
            self._waiting.append(waiting)
        longest = self._back_off_seconds * min(2**self._failures_in_row, _LONGEST_BACK_OFF)
        self._failures_in_row += 1
        return self._rng.uniform(longest / 2, longest)

    def _event(self, termination: Termination, reason: str, message: str) -> dict[str, Any]:
        container = termination.container
        identity = (
            f"{termination.pod_uid}/{container.name}/{termination.restart_count}"
            f"/{termination.finished_at:.0f}/{reason}"
        )
        kind = "initContainers" if termination.init else "containers"
        suffix = "." + blake2s(identity.encode(), digest_size=8).hexdigest()
        time = datetime.fromtimestamp(termination.finished_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": container.pod[: _LONGEST_NAME - len(suffix)] + suffix,
                "namespace": container.namespace,
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": container.namespace,
                "name": container.pod,
                "uid": termination.pod_uid,
                "fieldPath": f"spec.{kind}{{{container.name}}}",
            },
            "reason": reason,
            "message": message[:_LONGEST_MESSAGE],
            "type": "Warning",
            "count": 1,
            "firstTimestamp": time,
            "lastTimestamp": time,
            "source": {"component": _COMPONENT, "host": self._node},
            "reportingComponent": _COMPONENT,
            "reportingInstance": self._node,
        }
