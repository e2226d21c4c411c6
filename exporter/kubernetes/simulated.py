"""An API server as far as a node's pods and devices need one, over real HTTP."""

import asyncio
import json
import ssl
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, Self

from aiohttp import web

Json = Mapping[str, Any]

_KINDS: Final = {"pods": "Pod", "resourceslices": "ResourceSlice", "events": "Event"}
_COLLECTIONS: Final = {
    "/api/v1/pods": "pods",
    "/api/v1/events": "events",
    **{
        f"/apis/resource.k8s.io/{version}/resourceslices": "resourceslices"
        for version in ("v1", "v1beta2", "v1beta1")
    },
}
_HISTORY: Final = 20_000


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with the questions that begin after it was set."""

    status: int | None = None
    """Refuse with this status."""
    hangs: bool = False
    """Never answer."""
    on: frozenset[str] = frozenset({"list", "watch", "create"})


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    collection: str
    type: str
    found: Json


class SimulatedApiServer:
    """Serves what is put into it: lists in pages, watches with bookmarks, events to be created.

    ``versions`` are those of ``resource.k8s.io`` that it knows. Set ``fault`` to have questions
    fail, and back to ``None`` to have them succeed. With ``tls`` it serves HTTPS.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        versions: frozenset[str] = frozenset({"v1"}),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.tokens: Collection[str] | None = None
        """The bearer tokens that are let in; ``None``: whoever asks."""
        self.fault: Fault | None = None
        self.calls: Counter[str] = Counter()
        """Questions received by ``list``, ``watch`` and ``create``, the failed ones included."""
        self.queries: deque[Json] = deque(maxlen=100)
        """The latest questions' parameters, with ``path``."""
        self.ignores_limit = False
        """Whether lists come whole, as from the cache of a real server."""
        self._host, self._port, self._tls = host, port, tls
        self._versions = versions
        self._version = 1000
        self._oldest = 1000
        self._objects: dict[str, dict[str, Json]] = {collection: {} for collection in _KINDS}
        self._history: deque[_Change] = deque()
        self._watches: set[_Watch] = set()
        self._pages: dict[str, tuple[int, list[Json]]] = {}
        self._tokens = count()
        self._runner: web.AppRunner | None = None

    # What a test or a simulated node does.

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def objects(self, collection: str) -> list[Json]:
        return list(self._objects[collection].values())

    def put(self, collection: str, found: Json) -> None:
        """Create an object, or replace the one of the same namespace and name."""
        key = _key(found)
        there = key in self._objects[collection]
        self._change(collection, "MODIFIED" if there else "ADDED", found)

    def delete(self, collection: str, name: str, namespace: str | None = None) -> None:
        """Delete an object. Raises ``KeyError`` if there is none."""
        found = self._objects[collection][f"{namespace}/{name}"]
        self._change(collection, "DELETED", found)

    def bookmark(self) -> None:
        """Send a bookmark to each watch that wants them."""
        for watch in self._watches:
            if watch.wants_bookmarks:
                watch.send("BOOKMARK", self._bookmark(watch.collection))

    def compact(self) -> None:
        """Forget the history: watches that begin at an older version end with 410."""
        self._history.clear()
        self._version += 1
        self._oldest = self._version

    def send_raw(self, data: bytes) -> None:
        """Send bytes of your own on each watch."""
        for watch in self._watches:
            watch.queue.put_nowait(data)

    def end_watches(self) -> None:
        """End each watch in good order."""
        for watch in self._watches:
            watch.queue.put_nowait(None)

    def break_watches(self) -> None:
        """Cut each watch's connection, in the middle of an event."""
        for watch in self._watches:
            watch.queue.put_nowait(b'{"type":"ADDED","object":{"metad')
            watch.broken = True
            watch.queue.put_nowait(None)

    async def start(self) -> None:
        """Serve, also again after :meth:`stop`, then on the same port."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self._get)
        app.router.add_post("/api/v1/namespaces/{namespace}/events", self._create)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away, questions under way included."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.end_watches()
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # What a client sees.

    async def _get(self, request: web.Request) -> web.StreamResponse:
        collection = _COLLECTIONS.get(request.path)
        version = request.path.split("/")[3] if request.path.startswith("/apis/") else "v1"
        if collection is None or (collection == "resourceslices" and version not in self._versions):
            return _status(404, "the server could not find the requested resource")
        watching = request.query.get("watch") == "true"
        refused = await self._admit("watch" if watching else "list", request)
        if refused is not None:
            return refused
        if watching:
            return await self._watch(collection, request)
        return self._list(collection, request)

    def _list(self, collection: str, request: web.Request) -> web.Response:
        limit = 0 if self.ignores_limit else int(request.query.get("limit", "0"))
        token = request.query.get("continue")
        if token:
            if token not in self._pages:
                return _status(410, "The provided continue parameter is too old")
            version, found = self._pages.pop(token)
        else:
            select = _selector(request.query.get("fieldSelector", ""))
            version = self._version
            found = [one for one in self._objects[collection].values() if select(one)]
        metadata = {"resourceVersion": str(version)}
        if limit and len(found) > limit:
            token = f"{version}-{next(self._tokens)}"
            self._pages[token] = (version, found[limit:])
            metadata["continue"] = token
            found = found[:limit]
        kind = f"{_KINDS[collection]}List"
        return web.json_response({"kind": kind, "metadata": metadata, "items": found})

    async def _watch(self, collection: str, request: web.Request) -> web.StreamResponse:
        begin = int(request.query.get("resourceVersion") or 0)
        watch = _Watch(
            collection,
            _selector(request.query.get("fieldSelector", "")),
            wants_bookmarks=request.query.get("allowWatchBookmarks") == "true",
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if begin < self._oldest:
            message = f"too old resource version: {begin} ({self._oldest})"
            watch.send("ERROR", {"kind": "Status", "code": 410, "message": message})
            watch.queue.put_nowait(None)
        for change in self._history:
            if change.version > begin:
                watch.send_change(change)
        with self._following(watch), suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "1800"))):
                while (data := await watch.queue.get()) is not None:
                    await response.write(data)
        if watch.broken and request.transport:
            request.transport.abort()
        return response

    async def _create(self, request: web.Request) -> web.Response:
        refused = await self._admit("create", request)
        if refused is not None:
            return refused
        event = await request.json()
        if _key(event) in self._objects["events"]:
            return _status(409, f'events "{event["metadata"]["name"]}" already exists')
        self.put("events", event)
        return web.json_response(event, status=201)

    async def _admit(self, verb: str, request: web.Request) -> web.Response | None:
        self.calls[verb] += 1
        self.queries.append({"path": request.path, **request.query})
        if self.tokens is not None:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.tokens:
                return _status(401, "Unauthorized")
        fault = self.fault
        if fault is None or verb not in fault.on:
            return None
        if fault.hangs:
            await asyncio.Event().wait()
        return _status(fault.status or 500, "simulated fault")

    def _change(self, collection: str, type_: str, found: Json) -> None:
        self._version += 1
        kept: dict[str, Any] = deepcopy(dict(found))
        kept["metadata"]["resourceVersion"] = str(self._version)
        if type_ == "DELETED":
            del self._objects[collection][_key(kept)]
        else:
            self._objects[collection][_key(kept)] = kept
        change = _Change(self._version, collection, type_, kept)
        self._history.append(change)
        if len(self._history) > _HISTORY:
            self._oldest = self._history.popleft().version
        for watch in self._watches:
            watch.send_change(change)

    def _bookmark(self, collection: str) -> Json:
        return {
            "kind": _KINDS[collection],
            "metadata": {"resourceVersion": str(self._version), "creationTimestamp": None},
        }

    @contextmanager
    def _following(self, watch: "_Watch") -> Iterator[None]:
        self._watches.add(watch)
        try:
            yield
        finally:
            self._watches.remove(watch)


class _Watch:
    """One client that follows a collection."""

    def __init__(
        self, collection: str, select: Callable[[Json], bool], *, wants_bookmarks: bool
    ) -> None:
        self.collection = collection
        self.wants_bookmarks = wants_bookmarks
        self.broken = False
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._select = select

    def send_change(self, change: _Change) -> None:
        if change.collection == self.collection and self._select(change.found):
            self.send(change.type, change.found)

    def send(self, type_: str, found: Json) -> None:
        self.queue.put_nowait(json.dumps({"type": type_, "object": found}).encode() + b"\n")


def _key(found: Json) -> str:
    metadata = found["metadata"]
    return f"{metadata.get('namespace')}/{metadata['name']}"


def _selector(selector: str) -> Callable[[Json], bool]:
    """Return whether an object has the fields that are asked for: ``spec.nodeName=a,…``."""
    wanted = [term.split("=", 1) for term in selector.replace("==", "=").split(",") if term]

    def select(found: Json) -> bool:
        return all(_field(found, path) == value for path, value in wanted)

    return select


def _field(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step, {})
    return found


def _status(code: int, message: str) -> web.Response:
    status = {"kind": "Status", "status": "Failure", "message": message, "code": code}
    return web.json_response(status, status=code)
