"""The mapper, asking a real gRPC server, on a clock that passes when told to."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.kubelet.client import PodResourcesClient
from exporter.kubelet.mapper import Mapper
from exporter.kubelet.simulated import Fault
from exporter.model.claims import Claims
from exporter.model.clocks import Monotonic
from tests.doubles.kubelet_node import Clock, Node, claims_of, short_folder


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    with short_folder() as folder:
        made = Node(folder / "kubelet.sock")
        async with made.kubelet:
            yield made


@pytest.fixture
async def client(node: Node) -> AsyncIterator[PodResourcesClient]:
    made = PodResourcesClient(node.socket)
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mapper(client: PodResourcesClient, clock: Clock) -> Mapper:
    return Mapper(client, clock=clock, rng=random.Random(7))  # noqa: S311  no secret


async def test_before_the_first_answer_nothing_is_known(mapper: Mapper, clock: Clock) -> None:
    assert mapper.claims(clock()) is None
    health = mapper.health()
    assert (health.name, health.up, health.duration_seconds) == ("kubelet", False, None)
    assert health.message
    assert set(health.failures.values()) == {0}


async def test_claims_and_health_after_an_answer(node: Node, mapper: Mapper, clock: Clock) -> None:
    assert await mapper.refresh_once() == 5
    assert mapper.claims(clock()) == node.claims
    health = mapper.health()
    assert (health.up, health.message, health.duration_seconds) == (True, "", 0)


async def test_the_same_answer_is_the_same_object(node: Node, mapper: Mapper, clock: Clock) -> None:
    await mapper.refresh_once()
    before = mapper.claims(clock())
    clock.now += 5
    await mapper.refresh_once()
    assert mapper.claims(clock()) is before
    node.claims = claims_of("1")
    await mapper.refresh_once()
    assert mapper.claims(clock()) == node.claims


async def test_a_claim_keeps_the_time_at_which_it_was_first_seen(
    node: Node, mapper: Mapper, clock: Clock
) -> None:
    await mapper.refresh_once()
    clock.now = 2000
    node.kubelet.fault = Fault(status="UNAVAILABLE")
    await mapper.refresh_once()
    assert mapper.claims(clock()) is None
    node.kubelet.fault = None
    node.claims = claims_of("0", "1")
    await mapper.refresh_once()
    claims = mapper.claims(clock())
    assert claims
    assert [claim.since for claim in claims.held] == [1000.0, 2000.0]


async def test_claims_stand_for_the_grace_and_then_vanish(
    node: Node, mapper: Mapper, clock: Clock
) -> None:
    await mapper.refresh_once()
    node.kubelet.fault = Fault(status="INTERNAL")
    clock.now += 5
    await mapper.refresh_once()
    assert mapper.claims(Monotonic(clock() + 60)) == node.claims
    assert mapper.claims(Monotonic(clock() + 60.1)) is None
    health = mapper.health()
    assert not health.up
    assert "INTERNAL" in health.message
    assert health.failures["unknown"] == 1


async def test_trouble_is_asked_for_ever_less_often(node: Node, mapper: Mapper) -> None:
    node.kubelet.fault = Fault(status="RESOURCE_EXHAUSTED")
    pauses = [await mapper.refresh_once() for _ in range(6)]
    for pause, longest in zip(pauses, [5, 10, 20, 30, 30, 30], strict=True):
        assert longest / 2 <= pause <= longest
    assert len(set(pauses)) == len(pauses)
    node.kubelet.fault = None
    assert await mapper.refresh_once() == 5
    node.kubelet.fault = Fault(status="INTERNAL")
    assert await mapper.refresh_once() <= 5


async def test_an_absent_kubelet_is_looked_for_every_second(node: Node, mapper: Mapper) -> None:
    await node.kubelet.stop()
    pauses = [await mapper.refresh_once() for _ in range(8)]
    assert all(0.5 <= pause <= 1 for pause in pauses)
    assert mapper.health().failures["socket_missing"] == 8


async def test_what_plugins_advertise_anew_is_seen_with_the_next_answer(
    node: Node, mapper: Mapper, clock: Clock
) -> None:
    await mapper.refresh_once()
    node.claims = replace(node.claims, allocatable={"nvidia.com/mig-1g.10gb": ("MIG-1",)})
    await mapper.refresh_once()
    claims = mapper.claims(clock())
    assert claims
    assert claims.allocatable == {"nvidia.com/mig-1g.10gb": ("MIG-1",)}


async def test_allocatable_is_asked_for_again_after_an_error(node: Node, mapper: Mapper) -> None:
    await mapper.refresh_once()
    node.kubelet.fault = Fault(status="UNAVAILABLE", methods=frozenset({"List"}))
    await mapper.refresh_once()
    node.kubelet.fault = None
    await mapper.refresh_once()
    assert node.kubelet.calls["GetAllocatableResources"] == 2


async def test_without_allocatable_the_claims_are_kept(
    node: Node, mapper: Mapper, clock: Clock
) -> None:
    allocatable = node.claims.allocatable
    node.kubelet.fault = Fault(status="INTERNAL", methods=frozenset({"GetAllocatableResources"}))
    assert await mapper.refresh_once() == 5
    assert mapper.claims(clock()) == Claims(held=node.claims.held)
    health = mapper.health()
    assert health.up
    assert "GetAllocatableResources" in health.message
    assert health.failures["unknown"] == 1
    node.kubelet.fault = None
    await mapper.refresh_once()
    assert mapper.claims(clock()) == Claims(held=node.claims.held, allocatable=allocatable)
    assert mapper.health().message == ""


async def test_allocatable_of_long_ago_is_given_up(
    node: Node, mapper: Mapper, clock: Clock
) -> None:
    await mapper.refresh_once()
    node.kubelet.fault = Fault(status="INTERNAL", methods=frozenset({"GetAllocatableResources"}))
    for expected in (node.claims, Claims(held=node.claims.held)):
        for _ in range(12):
            clock.now += 5
            node.clock.now += 5
            await mapper.refresh_once()
        assert mapper.claims(clock()) == expected
        clock.now += 60


async def test_only_changes_are_logged(
    node: Node, mapper: Mapper, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.kubelet")
    for fault in (None, Fault(status="INTERNAL"), Fault(status="PERMISSION_DENIED"), None):
        node.kubelet.fault = fault
        for _ in range(2):
            node.clock.now += 1
            await mapper.refresh_once()
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING", "WARNING", "INFO"]


async def test_run_refreshes_until_cancelled(node: Node, client: PodResourcesClient) -> None:
    mapper = Mapper(client, period_seconds=0.01)
    task = asyncio.create_task(mapper.run())
    async with asyncio.timeout(5):
        while node.kubelet.calls["List"] < 3:  # noqa: ASYNC110  the server tells by this alone
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
