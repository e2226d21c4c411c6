"""The first answers of a kubelet that has started are not complete, and are not taken for that."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from exporter.kubelet.client import KubeletError, PodResourcesClient
from exporter.kubelet.mapper import Mapper
from exporter.kubelet.witness import pods_of
from exporter.model.claims import Claims, DraClaim, PodName
from tests.doubles.kubelet_node import Clock, Node, Witness, claims_of, container, short_folder

US = PodName("monitoring", "kube-gpu-exporter-x7k2p")
BOTH = claims_of("0", "1")
NONE_YET = Claims(allocatable={})


class Rig:
    """A mapper, its kubelet and its witness, on one clock."""

    def __init__(self, node: Node, client: PodResourcesClient) -> None:
        self.node = node
        self._client = client
        self.clock = Clock()
        self.witness = Witness()
        self.mapper = Mapper(
            client,
            witness=self.witness,
            clock=self.clock,
            rng=random.Random(7),  # noqa: S311  no secret
        )
        node.claims = BOTH

    async def restart(self, first_answer: Claims, *, noticed: bool = True) -> None:
        """Have the kubelet start anew, and answer so from then on."""
        await self.node.kubelet.stop()
        if noticed:
            await self.ask()
        self.node.claims = first_answer
        await self.node.kubelet.start()
        async with asyncio.timeout(30):
            while not await self._connected():  # noqa: ASYNC110  gRPC shows it by trying alone
                await asyncio.sleep(0.01)

    async def _connected(self) -> bool:
        """Whether gRPC has found the new socket, for which it takes its time after a failure."""
        self.node.clock.now += 1
        try:
            await self._client.claims()
        except KubeletError:
            return False
        return True

    async def ask(self, after: float = 1.0) -> float:
        self.clock.now += after
        self.node.clock.now += after
        return await self.mapper.refresh_once()

    @property
    def pods(self) -> list[str] | None:
        """The pods that have claims."""
        claims = self.mapper.claims(self.clock())
        return None if claims is None else sorted(pod.name for pod in pods_of(claims))

    @property
    def advertised(self) -> int:
        claims = self.mapper.claims(self.clock())
        advertised = claims.allocatable if claims else None
        return len((advertised or {}).get("nvidia.com/gpu", ()))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """Return a rig whose kubelet lists the pod that asks."""
    with short_folder() as folder:
        node = Node(folder / "kubelet.sock")
        node.kubelet.without_devices = {US}
        client = PodResourcesClient(node.socket, own_pod=US)
        async with node.kubelet:
            yield Rig(node, client)
        await client.close()


@pytest.fixture
def stranger(rig: Rig) -> Rig:
    """Return the rig, with a kubelet that does not list the pod that asks, as outside a cluster."""
    rig.node.kubelet.without_devices = set()
    return rig


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_kubelet_that_does_not_list_us_yet_is_not_ready(rig: Rig, noticed: bool) -> None:  # noqa: FBT001
    await rig.ask()
    rig.node.kubelet.without_devices = set()
    await rig.restart(NONE_YET, noticed=noticed)
    for _ in range(60):
        assert await rig.ask() <= 1
        assert rig.pods == ["0", "1"]
        assert rig.advertised == 2
    health = rig.mapper.health()
    assert (health.up, health.failures["not_ready"]) == (False, 60)
    assert "own pod" in health.message
    rig.node.claims = BOTH
    rig.node.kubelet.without_devices = {US}
    await rig.ask()
    assert rig.pods == ["0", "1"]
    assert rig.mapper.health().up


async def test_a_kubelet_that_stays_without_us_is_believed_no_longer_than_one_that_is_away(
    rig: Rig,
) -> None:
    await rig.ask()
    rig.node.kubelet.without_devices = set()
    await rig.restart(NONE_YET)
    await rig.ask(after=66)
    assert rig.pods is None


async def test_a_kubelet_that_never_lists_us_is_believed(stranger: Rig) -> None:
    """The name that we take for our pod's may be another's: with the host's network, the node's."""
    await stranger.ask()
    stranger.node.claims = claims_of("1")
    await stranger.ask()
    assert stranger.pods == ["1"]
    assert stranger.mapper.health().up


@pytest.mark.parametrize("noticed", [True, False])
async def test_after_a_restart_a_claim_does_not_vanish_for_want_of_an_answer(
    rig: Rig,
    noticed: bool,  # noqa: FBT001
) -> None:
    await rig.ask()
    await rig.restart(NONE_YET, noticed=noticed)
    for _ in range(9):
        assert await rig.ask() == 1
        assert rig.pods == ["0", "1"]
    rig.node.claims = BOTH
    for _ in range(20):
        await rig.ask()
        assert rig.pods == ["0", "1"]
    assert await rig.ask() == 5


async def test_a_claim_that_stays_away_vanishes_ten_seconds_after_the_restart(rig: Rig) -> None:
    await rig.ask()
    await rig.restart(claims_of("1"))
    await rig.ask()
    assert rig.pods == ["0", "1"]
    await rig.ask(after=10)
    assert rig.pods == ["1"]


async def test_who_is_not_listed_waits_longer_for_claims_to_come_back(stranger: Rig) -> None:
    await stranger.ask()
    await stranger.restart(claims_of("1"))
    await stranger.ask()
    await stranger.ask(after=59)
    assert stranger.pods == ["0", "1"]
    await stranger.ask(after=1)
    assert stranger.pods == ["1"]


async def test_a_claim_of_a_pod_that_is_gone_vanishes_with_the_first_answer(rig: Rig) -> None:
    await rig.ask()
    rig.witness.gone = {PodName("research", "0")}
    await rig.restart(claims_of("1"))
    await rig.ask()
    assert rig.pods == ["1"]


async def test_a_claim_whose_device_another_has_vanishes_with_the_first_answer(rig: Rig) -> None:
    await rig.ask()
    (first, second) = BOTH.held
    successor = replace(first, container=container("2"))
    await rig.restart(replace(BOTH, held=(second, successor)))
    await rig.ask()
    assert rig.pods == ["1", "2"]


async def test_claims_through_dra_survive_as_well(rig: Rig) -> None:
    dra = DraClaim(container("0"), "research", "claim", "gpu.nvidia.com", "pool", "gpu-0")
    rig.node.claims = Claims(dra=(dra,))
    await rig.ask()
    await rig.restart(NONE_YET)
    await rig.ask()
    assert rig.pods == ["0"]
    rig.witness.gone = {PodName("research", "0")}
    await rig.ask()
    assert rig.pods == []


async def test_devices_that_plugins_register_again_one_by_one_stay_advertised(rig: Rig) -> None:
    await rig.ask()
    await rig.restart(replace(BOTH, allocatable={}))
    await rig.ask()
    assert rig.advertised == 2
    await rig.ask(after=10)
    assert rig.advertised == 0


async def test_without_a_restart_what_an_answer_lacks_is_gone_at_once(rig: Rig) -> None:
    await rig.ask()
    rig.node.claims = replace(claims_of("1"), allocatable={})
    await rig.ask()
    assert rig.pods == ["1"]
    assert rig.advertised == 0


# What the API server knows


async def test_a_pod_that_has_ended_has_no_devices_though_the_kubelet_lists_it(rig: Rig) -> None:
    rig.witness.ended = {PodName("research", "0")}
    await rig.ask()
    assert rig.pods == ["1"]
    rig.witness.ended = set()
    assert rig.pods == ["0", "1"]


async def test_a_claim_waits_for_five_seconds_until_its_pod_is_known(rig: Rig) -> None:
    rig.witness.unknown = {PodName("research", "0"), PodName("research", "1")}
    await rig.ask()
    assert rig.pods == []
    rig.witness.unknown.pop()
    assert len(rig.pods or ()) == 1
    rig.clock.now += 5
    assert rig.pods == ["0", "1"]
    await rig.ask()
    assert rig.pods == ["0", "1"]
