"""The kubelet is asked when a pod should have got devices, and not only when it is time."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from exporter.kubelet.client import PodResourcesClient
from exporter.kubelet.mapper import Mapper
from exporter.kubelet.simulated import Fault
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.model.claims import Claims, PodName
from exporter.model.clocks import monotonic
from tests.doubles.api_manifests import manifest, requesting
from tests.doubles.following import following, until
from tests.doubles.kubelet_node import Clock, Node, claims_of, short_folder

POD = PodName("research", "0")
NOBODY = Claims(allocatable={})
NEVER = 1e6
"""A period that no test lives to see the end of."""


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    with short_folder() as folder:
        made = Node(folder / "kubelet.sock")
        made.claims = NOBODY
        async with made.kubelet:
            yield made


@pytest.fixture
async def client(node: Node) -> AsyncIterator[PodResourcesClient]:
    made = PodResourcesClient(node.socket)
    yield made
    await made.close()


@pytest.fixture
def mapper(client: PodResourcesClient) -> Mapper:
    return Mapper(client, clock=Clock(), rng=random.Random(7))  # noqa: S311  no secret


async def pauses(mapper: Mapper, node: Node, count: int) -> list[float]:
    found = []
    for _ in range(count):
        node.clock.now += 5
        found.append(await mapper.refresh_once())
    return found


async def test_a_pod_without_devices_is_asked_for_at_growing_distances(
    node: Node, mapper: Mapper
) -> None:
    await mapper.refresh_once()
    mapper.expect(POD, new=True)
    assert await pauses(mapper, node, 7) == [0.25, 0.5, 1, 2, 4, 5, 5]


async def test_a_pod_that_has_its_devices_is_not_asked_for(node: Node, mapper: Mapper) -> None:
    mapper.expect(POD, new=True)
    assert await pauses(mapper, node, 1) == [0.25]
    node.claims = claims_of("0")
    assert await pauses(mapper, node, 1) == [5]
    mapper.expect(POD, new=False)
    assert await pauses(mapper, node, 1) == [5]


async def test_a_new_pod_of_a_name_is_asked_for_though_the_one_before_has_devices(
    node: Node, mapper: Mapper
) -> None:
    node.claims = claims_of("0")
    await mapper.refresh_once()
    mapper.expect(POD, new=True)
    assert await pauses(mapper, node, 6) == [0.25, 0.5, 1, 2, 4, 5]


async def test_each_change_of_a_pod_without_devices_begins_anew(node: Node, mapper: Mapper) -> None:
    mapper.expect(POD, new=True)
    await pauses(mapper, node, 6)
    mapper.expect(POD, new=False)
    assert await pauses(mapper, node, 2) == [0.25, 0.5]


async def test_a_kubelet_in_trouble_is_spared(node: Node, mapper: Mapper) -> None:
    node.kubelet.fault = Fault(status="RESOURCE_EXHAUSTED")
    mapper.expect(POD, new=True)
    for pause, longest in zip(await pauses(mapper, node, 4), [5, 10, 20, 30], strict=True):
        assert longest / 2 <= pause <= longest


async def test_many_expectations_make_few_questions(node: Node, client: PodResourcesClient) -> None:
    """However many pods change, four questions a second are enough to know."""
    mapper = Mapper(client, period_seconds=NEVER)
    task = asyncio.create_task(mapper.run())
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while loop.time() - begun < 1:
        for number in range(20):
            mapper.expect(PodName("research", str(number)), new=True)
        node.clock.now = loop.time()
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert 2 <= node.kubelet.calls["List"] <= 2 + 4 * (loop.time() - begun)


async def test_a_pod_is_mapped_as_soon_as_the_kubelet_has_admitted_it(
    node: Node, client: PodResourcesClient
) -> None:
    """From the API server's watch to the claims, without waiting for the kubelet's turn."""
    async with (
        SimulatedApiServer() as server,
        following(server, resources=["nvidia.com/gpu"]) as watch,
    ):
        mapper = Mapper(client, period_seconds=NEVER, witness=watch)
        watch.subscribe(mapper.expect)
        task = asyncio.create_task(mapper.run())
        await until(lambda: server.watches and node.kubelet.calls["List"] == 1)

        def mapped() -> list[str]:
            claims = mapper.claims(monotonic())
            return [claim.container.pod for claim in claims.held] if claims else []

        server.put("pods", manifest("bystander"))
        server.put("pods", manifest("0", containers=[requesting()], statuses=[], phase="Pending"))
        await until(lambda: node.kubelet.calls["List"] == 2)
        assert mapped() == []
        node.claims = claims_of("0")
        await until(lambda: mapped() == ["0"])
        assert node.kubelet.calls["List"] <= 7
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
