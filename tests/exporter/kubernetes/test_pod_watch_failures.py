"""How a watch that fails backs off, and what does not count as a failure."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from exporter.kubernetes.watch import PodWatch
from exporter.model.clocks import UnixSeconds
from tests.doubles.api_manifests import NODE, manifest
from tests.doubles.following import following, names, until


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


@asynccontextmanager
async def stepping(server: SimulatedApiServer) -> AsyncIterator[PodWatch]:
    """Return a watch that goes on only when it is told to."""
    access = ApiAccess.at(server.url)
    yield PodWatch(access, NODE, since=UnixSeconds(0), rng=random.Random(7))  # noqa: S311  no secret
    await access.close()


def assert_spread(pauses: list[float], longest: tuple[float, ...]) -> None:
    """Assert that each pause lies between half of what it may be and all of it."""
    for pause, limit in zip(pauses, longest, strict=True):
        assert limit / 2 <= pause <= limit
    assert len(set(pauses)) == len(pauses)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not_found"),
        (410, "expired"),
        (418, "unknown"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
async def test_each_refusal_has_its_reason_and_ends(
    server: SimulatedApiServer, status: int, reason: str
) -> None:
    server.put("pods", manifest("a"))
    server.fault = Fault(status=status)
    async with following(server) as watch:
        await until(lambda: watch.health().failures[reason] >= 2)
        health = watch.health()
        assert not health.up
        assert "simulated fault" in health.message
        server.fault = None
        await until(lambda: watch.health().up)
        assert names(watch) == {"a"}


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_who_is_never_let_in_asks_ever_less_often(
    server: SimulatedApiServer, status: int
) -> None:
    server.fault = Fault(status=status)
    async with stepping(server) as watch:
        pauses = [await watch._of_pods.step() for _ in range(11)]
        assert_spread(pauses, (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300))
        assert "simulated fault" in watch.health().message


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_by_a_server_that_has_let_us_in_is_no_verdict_for_minutes(
    server: SimulatedApiServer, status: int
) -> None:
    """A server that starts answers 403 until it has loaded its roles, which takes seconds."""
    async with stepping(server) as watch:
        await watch._of_pods._list()
        server.fault = Fault(status=status)
        pauses = [await watch._of_pods.step() for _ in range(8)]
        assert_spread(pauses, (1, 2, 4, 8, 16, 30, 30, 30))
        server.fault = None
        server.put("pods", manifest("a"))
        await watch._of_pods._list()
        assert names(watch) == {"a"}


async def test_a_server_that_starts_with_403_is_followed_within_seconds(
    server: SimulatedApiServer,
) -> None:
    server.fault = Fault(status=403)
    async with stepping(server) as watch:
        waited = sum([await watch._of_pods.step() for _ in range(2)])
        server.fault = None
        await watch._of_pods._list()
        assert watch.health().up
    assert waited <= 3


async def test_an_expired_version_costs_no_time_even_after_failures(
    server: SimulatedApiServer,
) -> None:
    server.put("pods", manifest("a"))
    async with stepping(server) as watch:
        await watch._of_pods._list()
        server.fault = Fault(status=503)
        for _ in range(6):
            await watch._of_pods.step()
        server.fault = None
        server.put("pods", manifest("b"))
        server.compact()
        assert await watch._of_pods.step() == 0
        await watch._of_pods._list()
        assert names(watch) == {"a", "b"}


async def test_versions_that_expire_again_and_again_are_trouble(
    server: SimulatedApiServer,
) -> None:
    server.fault = Fault(status=410)
    async with stepping(server) as watch:
        pauses = [await watch._of_pods.step() for _ in range(5)]
        assert pauses[0] == 0
        assert_spread(pauses[1:], (1, 2, 4, 8))
        assert not watch.health().up


async def test_a_refused_watch_turns_it_off_at_once(server: SimulatedApiServer) -> None:
    server.fault = Fault(status=403, on=frozenset({"watch"}))
    async with following(server) as watch:
        await until(lambda: watch.health().failures["forbidden"])
        assert not watch.health().up


async def test_the_back_off_grows_and_is_spread(server: SimulatedApiServer) -> None:
    server.fault = Fault(status=500)
    async with stepping(server) as watch:
        pauses = [await watch._of_pods.step() for _ in range(8)]
        assert_spread(pauses, (1, 2, 4, 8, 16, 30, 30, 30))
