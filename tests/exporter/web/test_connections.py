"""The port among clients that send nothing, read nothing, or send what is not HTTP."""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from exporter.web.connections import Connections, Limits, limits_of_process
from exporter.web.server import listen, serving
from exporter.web.tls import Tls
from tests.doubles.certificates import make_certificate
from tests.doubles.scripted import ManualClock

LIMITS = Limits(in_all=6, per_peer=4)
REQUEST = b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n"


class Port:
    """A served port, and clients that talk to it byte by byte."""

    def __init__(self, port: int, connections: Connections, clock: ManualClock) -> None:
        self.port = port
        self.connections = connections
        self.clock = clock
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self, peer: str = "127.0.0.1") -> "Client":
        """Connect from an address of the loopback network, and wait until it is accepted."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(peer, 0), limit=2**16
        )
        self._writers.append(writer)
        return Client(reader, writer)

    async def silent(self, number: int, peer: str = "127.0.0.1") -> list["Client"]:
        return [await self.connect(peer) for _ in range(number)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  (what is waited for is the server's)
                await asyncio.sleep(0.01)

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.connections.sweep()

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """Send a request and return the first line of the answer; empty if it was dropped."""
        try:
            self.writer.write(request)
            async with asyncio.timeout(20):
                first = await self.reader.readline()
                length = 0
                while (line := await self.reader.readline()) not in {b"\r\n", b""}:
                    if line.lower().startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                await self.reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        return first.strip()

    async def is_dropped(self) -> bool:
        """Wait until the server has closed the connection."""
        try:
            async with asyncio.timeout(20):
                return not await self.reader.read(1)
        except ConnectionError:
            return True


async def small(_request: web.Request) -> web.Response:
    return web.Response(text="small")


async def large(_request: web.Request) -> web.Response:
    return web.Response(body=bytes(2**25))


async def broken(_request: web.Request) -> web.Response:
    raise ValueError("a fault of ours")


@asynccontextmanager
async def served(tls: Tls | None = None, limits: Limits = LIMITS) -> AsyncIterator[Port]:
    app = web.Application()
    for handler in (small, large, broken):
        app.router.add_get(f"/{handler.__name__}", handler)
    clock = ManualClock()
    connections = Connections(limits, clock)
    with listen("127.0.0.1", 0) as opened:
        async with serving(app, opened, tls, connections):
            port = Port(opened.getsockname()[1], connections, clock)
            try:
                yield port
            finally:
                port.close()


async def test_who_sends_no_request_is_dropped() -> None:
    async with served() as port:
        client = await port.connect()
        await port.until(lambda: port.connections.count == 1)
        port.later(9.9)
        assert port.connections.count == 1
        port.later(0.2)
        assert port.connections.count == 0
        assert await client.is_dropped()


async def test_who_sends_half_a_request_is_dropped() -> None:
    async with served() as port:
        client = await port.connect()
        client.writer.write(b"GET /small HTTP/1.1\r\nHost: x\r\nX: ")
        await port.until(lambda: port.connections.count == 1)
        port.later(10.1)
        assert await client.is_dropped()


async def test_who_has_asked_may_be_idle_between_requests() -> None:
    async with served() as port:
        client = await port.connect()
        for _ in range(3):
            assert await client.ask() == b"HTTP/1.1 200 OK"
            port.later(120)
        assert await client.ask() == b"HTTP/1.1 200 OK"


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with served(limits=Limits(idle_seconds=0.05)) as port:
        client = await port.connect()
        assert await client.ask() == b"HTTP/1.1 200 OK"
        assert await client.is_dropped()


async def test_who_does_not_read_the_response_is_dropped() -> None:
    async with served() as port:
        client = await port.connect()
        client.writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await port.until(lambda: is_writing(port))
        port.later(29)
        assert port.connections.count == 1
        port.later(2)
        assert port.connections.count == 0


def is_writing(port: Port) -> bool:
    return any(each.state.name == "WRITING" for each in port.connections._open)


async def test_of_too_many_of_one_client_the_oldest_silent_one_is_dropped() -> None:
    async with served() as port:
        clients = await port.silent(20)
        newest = await port.connect()
        assert await newest.ask() == b"HTTP/1.1 200 OK"
        for dropped in clients[: -LIMITS.per_peer + 1]:
            assert await dropped.is_dropped()
        for kept in clients[-LIMITS.per_peer + 1 :]:
            assert await kept.ask() == b"HTTP/1.1 200 OK"
        assert port.connections.count == LIMITS.per_peer


async def test_who_has_asked_stays_while_others_of_the_same_address_come_and_say_nothing() -> None:
    async with served() as port:
        prometheus = await port.connect()
        assert await prometheus.ask() == b"HTTP/1.1 200 OK"
        port.clock.now += 60
        await port.silent(50)
        await port.until(lambda: port.connections.count == LIMITS.per_peer)
        assert await prometheus.ask() == b"HTTP/1.1 200 OK"


async def test_a_client_with_many_connections_takes_none_of_another_s() -> None:
    async with served() as port:
        (other,) = await port.silent(1, "127.0.0.2")
        await port.silent(50)
        await port.until(lambda: port.connections.count == LIMITS.per_peer + 1)
        assert await other.ask() == b"HTTP/1.1 200 OK"


async def test_of_too_many_in_all_one_of_the_greediest_is_dropped() -> None:
    async with served() as port:
        single = await port.connect("127.0.0.9")
        greedy = await port.silent(4)
        last = [await port.connect(f"127.0.0.{number}") for number in (2, 3)]
        assert await greedy[0].is_dropped()
        for kept in (single, *greedy[1:], *last):
            assert await kept.ask() == b"HTTP/1.1 200 OK"
        assert port.connections.count == LIMITS.in_all


async def test_many_who_read_nothing_do_not_keep_others_out() -> None:
    async with served() as port:
        for _ in range(LIMITS.per_peer + 2):
            slow = await port.connect()
            slow.writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await port.until(lambda: is_writing(port))
        client = await port.connect()
        assert await client.ask() == b"HTTP/1.1 200 OK"
        assert port.connections.count == LIMITS.per_peer


async def test_what_clients_cause_is_logged_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with served() as port:
        for request in (b"GET /small HTTP/1.1\r\nno header\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
            client = await port.connect()
            assert await client.ask(request) == b"HTTP/1.0 400 Bad Request"
            assert await client.is_dropped()
        await port.silent(5)
        await port.until(lambda: len(caplog.records) > 1)
    assert [record.getMessage() for record in caplog.records] == [
        "a request is not HTTP",
        "more connections of one client than it may have",
    ]
    assert not any(record.exc_info for record in caplog.records)


async def test_a_fault_of_ours_is_answered_500_and_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as port:
        client = await port.connect()
        answer = await client.ask(b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer == b"HTTP/1.1 500 Internal Server Error"
        (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert record.getMessage() == "a request failed"
        assert record.exc_info
        assert isinstance(record.exc_info[1], ValueError)


async def test_when_descriptors_run_out_one_connection_goes_and_one_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop, refusals = asyncio.get_running_loop(), [errno.ECONNABORTED, errno.EMFILE]
    accept = loop.sock_accept

    async def out_of_descriptors(listening: socket.socket) -> tuple[socket.socket, object]:
        if port.connections.count >= 2 and refusals:
            raise OSError(refusals.pop(0), "refused")
        return await accept(listening)

    monkeypatch.setattr(loop, "sock_accept", out_of_descriptors)
    async with served() as port:
        first, second = await port.silent(2)
        third = await port.connect()
        assert await third.ask() == b"HTTP/1.1 200 OK"
        assert await first.is_dropped()
        assert await second.ask() == b"HTTP/1.1 200 OK"
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert lines == ["no connection can be accepted"]


async def test_a_tls_handshake_has_to_be_finished_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with served(Tls(*make_certificate(tmp_path, "served"))) as port:
        silent, plain = await port.connect(), await port.connect()
        await port.until(lambda: port.connections.count == 2)
        plain.writer.write(REQUEST)
        assert await plain.is_dropped()
        await port.until(lambda: port.connections.count == 1)
        port.later(10.1)
        assert port.connections.count == 0
        assert await silent.is_dropped()
        await port.silent(20)
        await port.until(lambda: port.connections.count == LIMITS.per_peer)
    lines = [each.getMessage() for each in caplog.records if each.name.endswith("connections")]
    assert list(dict.fromkeys(lines)) == [
        "a TLS handshake failed",
        "a client sends no request",
        "more connections of one client than it may have",
    ]


def test_the_process_s_own_limit_leaves_room_for_what_else_it_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def limits(soft: int) -> Limits:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
        return limits_of_process()

    assert limits(2**20) == limits(resource.RLIM_INFINITY) == Limits()
    used = len(list(Path("/proc/self/fd").iterdir()))
    small = limits(used + 132)
    assert 98 <= small.in_all <= 102
    assert small.per_peer == small.in_all // 2
    assert limits(10) == Limits(in_all=8, per_peer=8)
