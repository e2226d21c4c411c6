"""What the pod watch knows of pods, for those who hear of the pods from the kubelet."""

from collections.abc import AsyncIterator

import pytest

from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from exporter.kubernetes.watch import PodWatch
from exporter.model.claims import PodName
from tests.doubles.api_manifests import manifest, requesting, running
from tests.doubles.following import following, until

A = PodName("research", "a")


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


def said(watch: PodWatch) -> tuple[bool, bool, bool]:
    return watch.has_ended(A), watch.is_gone(A), watch.knows(A)


async def test_a_pod_runs_ends_and_is_deleted(server: SimulatedApiServer) -> None:
    async with following(server) as watch:
        assert said(watch) == (False, False, False)
        await until(lambda: server.watches and watch.health().up)
        assert said(watch) == (False, True, False)
        server.put("pods", manifest("a"))
        await until(lambda: said(watch) == (False, False, True))
        server.put("pods", manifest("a", phase="Succeeded"))
        await until(lambda: said(watch) == (True, True, True))
        server.delete("pods", "a", "research")
        # By force, for one: whether its containers have ended is not known.
        await until(lambda: said(watch) == (False, True, True))
        server.put("pods", manifest("a", uid="another"))
        await until(lambda: said(watch) == (False, False, True))


async def test_who_does_not_keep_up_says_nothing_of_ends(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("a", phase="Failed"))
    async with following(server) as watch:
        await until(lambda: said(watch) == (True, True, True))
        await server.stop()
        await until(lambda: said(watch) == (False, False, True))


@pytest.mark.parametrize(("status", "waits"), [(403, False), (401, False), (500, True)])
async def test_nobody_has_to_wait_for_who_is_never_let_in(
    server: SimulatedApiServer,
    status: int,
    waits: bool,  # noqa: FBT001
) -> None:
    server.fault = Fault(status=status)
    async with following(server) as watch:
        await until(lambda: sum(watch.health().failures.values()))
        assert watch.knows(A) is not waits


async def test_pods_that_want_devices_are_announced(server: SimulatedApiServer) -> None:
    heard: list[tuple[str, bool]] = []
    server.put("pods", manifest("here", containers=[requesting()]))
    async with following(server, resources=["nvidia.com/*"]) as watch:
        watch.subscribe(lambda pod, *, new: heard.append((pod.name, new)))
        await until(lambda: server.watches)
        server.put("pods", manifest("b", containers=[requesting()], statuses=[]))
        server.put("pods", manifest("other"))
        server.put("pods", manifest("b", containers=[requesting()], statuses=[running()]))
        server.put("pods", manifest("b", containers=[requesting()], phase="Succeeded"))
        server.put("pods", manifest("b", containers=[requesting()], uid="another"))
        await until(lambda: len(heard) == 4)
    assert heard == [("here", True), ("b", True), ("b", False), ("b", True)]
