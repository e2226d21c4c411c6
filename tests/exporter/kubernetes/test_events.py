"""Kubernetes Events on pods, written to a simulated API server over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.events import EventWriter
from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import NO_WORDS
from exporter.model.pods import Termination
from tests.doubles.following import until

TERMINATION = Termination(
    container=Container("research", "llm-0", "server"),
    pod_uid="uid-of-llm-0",
    restart_count=2,
    exit_code=1,
    reason="Error",
    words=NO_WORDS,
    started_at=UnixSeconds(1_700_000_000.0),
    finished_at=UnixSeconds(1_700_000_060.0),
)


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


@asynccontextmanager
async def writing(server: SimulatedApiServer) -> AsyncIterator[EventWriter]:
    """Run a writer to ``server`` for as long as the context lasts."""
    access = ApiAccess.at(server.url)
    writer = EventWriter(access, "node-a", back_off_seconds=0.001)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await access.close()


def post(writer: EventWriter, termination: Termination = TERMINATION) -> None:
    writer.post(termination, "GPUOutOfMemory", "server ran out of GPU memory (confirmed)")


async def test_an_event_as_describe_shows_it(server: SimulatedApiServer) -> None:
    async with writing(server) as writer:
        post(writer)
        await until(lambda: server.objects("events"))
        assert writer.health().up
    [event] = server.objects("events")
    assert event["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "research",
        "name": "llm-0",
        "uid": "uid-of-llm-0",
        "fieldPath": "spec.containers{server}",
    }
    assert (event["type"], event["reason"], event["count"]) == ("Warning", "GPUOutOfMemory", 1)
    assert event["message"] == "server ran out of GPU memory (confirmed)"
    assert event["lastTimestamp"] == event["firstTimestamp"] == "2023-11-14T22:14:20Z"
    assert event["source"] == {"component": "kube-gpu-exporter", "host": "node-a"}
    assert event["metadata"]["namespace"] == "research"
    assert event["metadata"]["name"].startswith("llm-0.")


async def test_an_event_on_an_init_container_names_its_place(server: SimulatedApiServer) -> None:
    async with writing(server) as writer:
        post(writer, replace(TERMINATION, init=True))
        await until(lambda: server.objects("events"))
    [event] = server.objects("events")
    assert event["involvedObject"]["fieldPath"] == "spec.initContainers{server}"


async def test_a_termination_has_one_event_also_across_restarts(
    server: SimulatedApiServer,
) -> None:
    for _ in range(2):
        async with writing(server) as writer:
            before = server.calls["create"]
            post(writer)
            post(writer, replace(TERMINATION, restart_count=3))
            await until(lambda before=before: server.calls["create"] == before + 2)  # type: ignore[misc]
            await until(lambda: not writer._waiting)
            assert writer.health().up
    assert len(server.objects("events")) == 2


async def test_names_and_messages_are_as_long_as_they_may_be(server: SimulatedApiServer) -> None:
    long = replace(TERMINATION, container=Container("research", "p" * 253, "server"))
    async with writing(server) as writer:
        writer.post(long, "GPUOutOfMemory", "m" * 5000)
        await until(lambda: server.objects("events"))
    [event] = server.objects("events")
    assert len(event["metadata"]["name"]) == 253
    assert len(event["message"]) == 1024


async def test_without_the_right_it_says_so_once(
    server: SimulatedApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fault = Fault(status=403)
    async with writing(server) as writer:
        for restarts in range(3):
            post(writer, replace(TERMINATION, restart_count=restarts))
        await until(lambda: writer.health().failures["forbidden"] == 60)
        health = writer.health()
        assert (health.name, health.up) == ("kubernetes_events", False)
        assert "simulated fault" in health.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_a_server_that_refuses_for_a_while_gets_the_events_later(
    server: SimulatedApiServer, status: int
) -> None:
    server.fault = Fault(status=status)
    async with writing(server) as writer:
        for restarts in range(3):
            post(writer, replace(TERMINATION, restart_count=restarts))
        await until(lambda: server.calls["create"] >= 4)
        server.fault = None
        await until(lambda: len(server.objects("events")) == 3 and writer.health().up)


async def test_an_event_is_given_up_after_some_attempts(server: SimulatedApiServer) -> None:
    server.fault = Fault(status=503)
    async with writing(server) as writer:
        post(writer)
        await until(lambda: writer.health().failures["server_error"] == 20)
        await until(lambda: not writer._waiting)
        server.fault = None
        post(writer, replace(TERMINATION, restart_count=9))
        await until(lambda: server.objects("events"))
        assert server.calls["create"] == 21


async def test_an_event_that_no_server_takes_holds_up_no_others(
    server: SimulatedApiServer,
) -> None:
    async with writing(server) as writer:
        post(writer, replace(TERMINATION, container=Container("a/b", "llm-0", "server")))
        for restarts in range(3):
            post(writer, replace(TERMINATION, restart_count=restarts))
        await until(lambda: len(server.objects("events")) == 3)
        assert writer.health().failures["not_found"] < 5


async def test_events_that_wait_are_bounded() -> None:
    writer = EventWriter(ApiAccess(), "node-a")
    for restarts in range(500):
        post(writer, replace(TERMINATION, restart_count=restarts))
    assert len(writer._waiting) == 100
