"""The connections of the port: how many there may be, and for how long each may do nothing.

aiohttp serves what is sent on a connection. Which connections there are is decided here, because a
client that opens a thousand and sends nothing must not keep Prometheus and the probes out. A new
connection is always taken. Where there are too many, the one that is least likely to be missed is
dropped.
"""

import asyncio
import errno
import logging
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NoReturn

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

# What clients cause is logged here alone, and `app.logs` writes each kind of it once a minute.
log = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 1.0
_SPARE_DESCRIPTORS: Final = 32
"""Left for what else the program opens while it runs."""
_FEWEST: Final = 8
_NO_ROOM: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take. Prometheus and the kubelet's probes take a few connections each."""

    in_all: int = 256
    per_peer: int = 64
    """Connections from one address."""
    first_request_seconds: float = 10.0
    """From the connection to the end of the first request's headers, with the TLS handshake."""
    idle_seconds: float = 300.0
    """Between requests: longer than anybody's scrape interval."""
    write_seconds: float = 30.0
    """For a client to read a response."""


def limits_of_process() -> Limits:
    """Return the limits that the process's own limit on descriptors leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = Limits()
    if soft == resource.RLIM_INFINITY:
        return limits
    room = soft - len(list(Path("/proc/self/fd").iterdir())) - _SPARE_DESCRIPTORS
    in_all = min(limits.in_all, max(_FEWEST, room))
    return replace(limits, in_all=in_all, per_peer=min(limits.per_peer, max(_FEWEST, in_all // 2)))


class _State(IntEnum):
    """What a connection does: the less it would be missed, the lower."""

    SILENT = 0
    """It has sent no request yet, or not even finished the TLS handshake."""
    IDLE = 1
    WRITING = 2
    """The client has not read its response yet."""
    ANSWERING = 3


class _Connection:
    def __init__(self, peer: str, opened: socket.socket, now: float) -> None:
        self.peer = peer
        self.since = now
        """When it got into its state."""
        self.is_answering = False
        self.has_asked = False
        self.opening: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        """``None`` until it is opened: with TLS, until the handshake is done."""
        self._socket = opened

    @property
    def state(self) -> _State:
        if self.is_answering:
            return _State.ANSWERING
        if self.transport and self.transport.get_write_buffer_size():
            return _State.WRITING
        return _State.IDLE if self.has_asked else _State.SILENT

    def drop(self) -> None:
        """Close the connection at once, whatever has not been sent yet."""
        if self.opening:
            self.opening.cancel()
        if self.transport:
            self.transport.abort()

    def opened(self, _opening: "asyncio.Task[None]") -> None:
        """Note that it has been opened, or could not be."""
        self.opening = None
        if not self.transport:
            self._socket.close()


class _Protocol(web.RequestHandler):
    """aiohttp's protocol of one connection. It reports the end, and logs no client's traceback."""

    __slots__ = ("_on_lost", "connection")

    def __init__(
        self,
        server: web.Server,
        connection: _Connection,
        on_lost: Callable[[_Connection], None],
        **options: Any,
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self.connection = connection
        self._on_lost = on_lost

    def connection_lost(self, exc: BaseException | None) -> None:
        self._on_lost(self.connection)
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        del args
        error, peer = kw.get("exc_info"), self.connection.peer
        if isinstance(error, HttpProcessingError):
            reason = " ".join(error.message.split())[:200]
            log.info("a request is not HTTP", extra={"peer": peer, "reason": reason})
        else:
            log.error("a request failed", exc_info=error, extra={"peer": peer})


class Connections:
    """Accepts connections on a socket and hands them to aiohttp, within limits."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._open: dict[_Connection, None] = {}
        """In the order in which they were accepted."""

    @property
    def count(self) -> int:
        return len(self._open)

    @web.middleware
    async def track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a connection asks for something, so that it is not taken for an idle one."""
        protocol = request.protocol
        if not isinstance(protocol, _Protocol):
            return await handler(request)
        connection = protocol.connection
        connection.has_asked = connection.is_answering = True
        try:
            return await handler(request)
        finally:
            connection.is_answering = False
            connection.since = self._clock()

    @asynccontextmanager
    async def accepting(
        self, listening: socket.socket, server: web.Server, tls: ssl.SSLContext | None
    ) -> AsyncIterator[None]:
        """Accept connections to ``server`` until the block ends."""
        listening.setblocking(False)  # noqa: FBT003
        tasks = [
            asyncio.create_task(self._accept(listening, server, tls), name="accepting"),
            asyncio.create_task(self._sweep(), name="sweeping"),
        ]
        try:
            yield
        finally:
            for task in (*tasks, *(each.opening for each in self._open if each.opening)):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(
        self, listening: socket.socket, server: web.Server, tls: ssl.SSLContext | None
    ) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                opened, address = await loop.sock_accept(listening)
            except OSError as error:
                await self._cannot_accept(error)
                continue
            connection = self._admit(opened, str(address[0]))
            opening = asyncio.create_task(self._serve(connection, opened, server, tls))
            opening.add_done_callback(connection.opened)
            connection.opening = opening
            # Many that wait to be accepted must not keep those waiting that are open.
            await asyncio.sleep(0)

    async def _cannot_accept(self, error: OSError) -> None:
        if error.errno not in _NO_ROOM:
            # It went away before it was accepted.
            await asyncio.sleep(0)
            return
        log.warning(
            "no connection can be accepted", extra={"reason": error.strerror, "open": self.count}
        )
        if self._open:
            self._drop(self._least_missed(self._open))
        await asyncio.sleep(0.05)

    def _admit(self, opened: socket.socket, peer: str) -> _Connection:
        own = [each for each in self._open if each.peer == peer]
        if len(own) >= self._limits.per_peer:
            self._make_room(own, "more connections of one client than it may have", peer)
        elif len(self._open) >= self._limits.in_all:
            most, _ = Counter(each.peer for each in self._open).most_common(1)[0]
            greediest = [each for each in self._open if each.peer == most]
            self._make_room(greediest, "more connections than there may be", most)
        connection = _Connection(peer, opened, self._clock())
        self._open[connection] = None
        return connection

    def _make_room(self, among: Iterable[_Connection], why: str, peer: str) -> None:
        self._drop(self._least_missed(among))
        log.warning(why, extra={"peer": peer, "open": self.count})

    @staticmethod
    def _least_missed(among: Iterable[_Connection]) -> _Connection:
        return min(among, key=lambda each: (each.state, each.since))

    async def _serve(
        self,
        connection: _Connection,
        opened: socket.socket,
        server: web.Server,
        tls: ssl.SSLContext | None,
    ) -> None:
        def protocol() -> asyncio.BaseProtocol:
            return _Protocol(
                server,
                connection,
                self._forget,
                access_log=None,
                keepalive_timeout=self._limits.idle_seconds,
                lingering_time=1.0,
            )

        try:
            connection.transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                protocol,
                opened,
                ssl=tls,
                ssl_handshake_timeout=self._limits.first_request_seconds if tls else None,
            )
        except OSError as error:
            self._forget(connection)
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            log.info("a TLS handshake failed", extra={"peer": connection.peer, "reason": reason})

    async def _sweep(self) -> NoReturn:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep()

    def sweep(self) -> None:
        """Drop who has been silent, or has not read its response, for too long."""
        longest = {
            _State.SILENT: (self._limits.first_request_seconds, "a client sends no request"),
            _State.WRITING: (self._limits.write_seconds, "a client does not read its response"),
        }
        now = self._clock()
        for connection in list(self._open):
            seconds, message = longest.get(connection.state, (float("inf"), ""))
            if now - connection.since > seconds:
                self._drop(connection)
                log.info(message, extra={"peer": connection.peer})

    def _drop(self, connection: _Connection) -> None:
        self._forget(connection)
        connection.drop()

    def _forget(self, connection: _Connection) -> None:
        self._open.pop(connection, None)
