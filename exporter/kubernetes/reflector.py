"""Keeps up with a collection of the API server: lists it, watches it, lists it again if need be."""

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.failures import MALFORMED, ApiError, ApiFailure, refusal
from exporter.kubernetes.listing import members
from exporter.model.clocks import Monotonic, monotonic

_LOG = logging.getLogger(__name__)

_PAGE: Final = "100"
_FROM_CACHE: Final = "0"
"""The resource version that any state of the server's cache satisfies. Without a version, each list
would cost the server a read of all pods of the cluster."""

# Most often these last until somebody changes a right. But a server that starts also refuses what
# it will permit a second later, when it has loaded its roles.
_REFUSALS: Final = {ApiFailure.FORBIDDEN, ApiFailure.UNAUTHORIZED, ApiFailure.NOT_FOUND}
# After these, what is known may no longer be what the server holds.
_LIST_AGAIN: Final = {ApiFailure.MALFORMED, ApiFailure.NOT_FOUND}


class Sink(Protocol):
    """Receives the objects of a collection."""

    def put(self, found: Mapping[str, Any]) -> None:
        """Take an object in its present state. A malformed object may raise anything."""

    def drop(self, uid: str) -> None:
        """Forget an object that no longer exists."""

    def known(self) -> Collection[str]:
        """Return the uids of the objects that were put and not dropped."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    request: float = 30.0
    watch: float = 240.0
    """After which the server is asked to end a watch; half to all of it, by chance."""
    watch_grace: float = 15.0
    """How much longer a watch may last before it counts as stalled."""
    back_off: float = 1.0
    """After the first failure; doubled after each further one."""
    back_off_cap: float = 30.0
    refused_cap: float = 300.0
    """Instead of ``back_off_cap`` for refusals by a server that has never let us in."""


class Reflector:
    """Fills ``sink`` with those objects of a collection that ``selector`` selects.

    ``paths`` are the collection's paths in the versions of its API, the newest first. ``failures``
    counts failures by reason.
    """

    def __init__(
        self,
        access: ApiAccess,
        paths: Sequence[str],
        sink: Sink,
        *,
        selector: str,
        failures: Counter[str],
        timing: Timing,
        clock: Callable[[], Monotonic] = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.up = False
        """Whether the sink holds the server's objects, in their present state or a recent one."""
        self.message = "not asked yet"
        self.duration_seconds: float | None = None
        """Of the last list."""
        self._access = access
        self._paths = paths
        self._path = paths[0]
        self._sink = sink
        self._selector = selector
        self._failures = failures
        self._timing = timing
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._reason: ApiFailure | None = None
        self._failures_in_row = 0
        self._admitted = False
        """Whether the server has ever given a list."""
        self._listed = False
        self._relisting = False
        """Whether the list is due to an expired version, and nothing was heard since."""
        self._version = _FROM_CACHE

    @property
    def shut_out(self) -> bool:
        """Whether the server has never let us in, and refuses us now."""
        return not self._admitted and self._reason in {ApiFailure.NOT_CONFIGURED, *_REFUSALS}

    async def run(self) -> NoReturn:
        """Keep up until cancelled."""
        while True:
            pause_seconds = await self.step()
            await asyncio.sleep(pause_seconds)

    async def step(self) -> float:
        """List if need be, then watch until the watch ends; return in how many seconds to go on."""
        try:
            if not self._listed:
                await self._list()
            await self._watch()
        except ApiError as error:
            return self._failed(error)
        return 0.0

    async def _list(self) -> None:
        started = self._clock()
        for path in self._paths:
            self._path = path
            try:
                version = await self._list_all()
                break
            except ApiError as error:
                if error.reason is not ApiFailure.NOT_FOUND or path == self._paths[-1]:
                    # A list from the cache may fail for good where a list from the store does not.
                    self._version = ""
                    raise
        self._version, self._listed, self._admitted = version, True, True
        self.duration_seconds = self._clock() - started
        self._set_health(None)

    async def _list_all(self) -> str:
        """Put all objects, page by page, and drop all others; return the list's version."""
        query = {"fieldSelector": self._selector, "limit": _PAGE}
        if self._version:
            query["resourceVersion"] = self._version
        seen: set[str | None] = set()
        while True:
            page: dict[str, Any] = {}
            async with self._asking(query, self._timing.request) as content:
                for name, value in members((await content.read()).decode()):
                    if name == "items":
                        seen.add(self._put(value))
                        # Half a millisecond and more each, of which there may be hundreds.
                        await asyncio.sleep(0)
                    else:
                        page[name] = value
                metadata = page["metadata"]
                version: str = metadata["resourceVersion"]
            if not metadata.get("continue"):
                break
            query = {
                "fieldSelector": self._selector,
                "limit": _PAGE,
                "continue": metadata["continue"],
            }
        for uid in set(self._sink.known()) - seen:
            self._sink.drop(uid)
        return version

    async def _watch(self) -> None:
        """Follow changes until the server ends the watch, as it is asked to."""
        seconds = self._rng.uniform(self._timing.watch / 2, self._timing.watch)
        query = {
            "fieldSelector": self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, int(seconds))),
        }
        started, quiet = self._clock(), True
        try:
            async with self._asking(query, seconds + self._timing.watch_grace) as content:
                self._set_health(None)
                async for line in content:
                    self._take(json.loads(line))
                    quiet, self._relisting, self._failures_in_row = False, False, 0
        except ApiError as error:
            if error.reason is ApiFailure.TIMEOUT:
                raise ApiError(
                    ApiFailure.STALLED, f"the watch of {self._path} was not ended when it was due"
                ) from error
            if self._clock() - started > self._timing.back_off_cap:
                self._failures_in_row = 0
            raise
        if quiet and self._clock() - started < seconds / 2:
            raise ApiError(
                ApiFailure.UNAVAILABLE, f"the API server ended the watch of {self._path} early"
            )
        self._relisting, self._failures_in_row = False, 0

    def _take(self, event: Mapping[str, Any]) -> None:
        found = event["object"]
        if event["type"] == "ERROR":
            raise refusal(f"the watch of {self._path}", found["code"], str(found["message"]))
        version = found["metadata"]["resourceVersion"]
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._put(found)
            case "DELETED":
                # The last state that the object had, which may show how a pod ended.
                uid = self._put(found)
                if uid is not None and uid in self._sink.known():
                    self._sink.drop(uid)
            case "BOOKMARK":
                pass
            case other:
                raise ValueError(f"an event of type {other!r}")
        self._version = version

    def _put(self, found: Mapping[str, Any]) -> str | None:
        """Take an object, and return its uid. An object that can't be read costs no others."""
        uid = name = None
        try:
            uid, name = found["metadata"]["uid"], found["metadata"]["name"]
            self._sink.put(found)
        except MALFORMED as error:
            self._failures[ApiFailure.MALFORMED] += 1
            _LOG.warning("%s: %s can't be read (%r)", self._path, name, error)
        return uid

    @asynccontextmanager
    async def _asking(self, query: Mapping[str, str], timeout_seconds: float) -> AsyncIterator[Any]:
        """Ask for the collection. What can't be read of the answer makes the answer malformed."""
        async with self._access.ask(
            "GET", self._path, query=query, timeout_seconds=timeout_seconds
        ) as content:
            try:
                yield content
            except MALFORMED as error:
                raise ValueError(repr(error)) from error

    def _failed(self, error: ApiError) -> float:
        """Count a failure, and report it; return how long to wait, spread over half of the time."""
        self._failures[error.reason] += 1
        if error.reason is ApiFailure.EXPIRED:
            self._listed, self._version = False, ""
            if not self._relisting:
                # The server has forgotten what came after our version, as each server does in time
                # and with each restart. That is no trouble, unless a new list does not help.
                self._relisting = True
                return 0.0
        self._failures_in_row += 1
        refused = error.reason in _REFUSALS
        # A watch that breaks off is resumed where it was. It is trouble only if that does not help.
        if refused or not self._listed or self._failures_in_row > 1:
            self._set_health(error)
        if error.reason in _LIST_AGAIN:
            self._listed = False
        doubled = self._timing.back_off * 2 ** min(self._failures_in_row - 1, 10)
        shut_out = refused and not self._admitted
        cap = self._timing.refused_cap if shut_out else self._timing.back_off_cap
        longest = min(cap, doubled)
        return self._rng.uniform(longest / 2, longest)

    def _set_health(self, error: ApiError | None) -> None:
        """Update health, and log a change: the same trouble is logged once."""
        reason = error.reason if error else None
        if (self.up, self._reason) != (error is None, reason):
            if error is None:
                _LOG.info("following %s", self._path)
            else:
                _LOG.warning("%s", error)
        self.up, self._reason = error is None, reason
        self.message = str(error) if error else ""
