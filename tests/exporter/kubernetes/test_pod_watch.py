"""The pod watch against a simulated API server, over real HTTP."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator

import pytest

from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.reflector import Timing
from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from exporter.kubernetes.watch import PodWatch
from exporter.model.claims import DraName, PodName
from exporter.model.clocks import UnixSeconds
from tests.doubles.api_manifests import (
    GPU,
    NODE,
    basic,
    ended,
    gpu,
    manifest,
    mig,
    resource_slice,
    running,
    terminated,
)
from tests.doubles.following import SINCE, following, names, taken, until
from tests.doubles.kubelet_node import Clock

A = PodName("research", "a")


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


async def test_before_the_first_answer_nothing_is_known(server: SimulatedApiServer) -> None:
    watch = PodWatch(ApiAccess.at(server.url), NODE, since=UnixSeconds(0))
    health = watch.health()
    assert (health.name, health.up, health.duration_seconds) == ("kubernetes", False, None)
    assert health.message
    assert {"forbidden", "expired", "stalled"} < set(health.failures)
    assert set(health.failures.values()) == {0}
    assert (watch.pods(), watch.take_terminations(), watch.dra_devices()) == ({}, (), {})


async def test_this_nodes_pods_are_listed_and_watched(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("a", labels={"team": "nlp", "other": "x"}))
    server.put("pods", manifest("elsewhere", node="node-b"))
    async with following(server, labels=["team"]) as watch:
        await until(lambda: server.watches)
        server.put("pods", manifest("b"))
        server.put("pods", manifest("elsewhere-too", node="node-b"))
        server.put("pods", manifest("a", labels={"team": "vision"}))
        await until(lambda: "b" in names(watch) and watch.pods()[A].labels != {})
        await until(lambda: watch.pods()[A].labels == {"team": "vision"})
        assert names(watch) == {"a", "b"}
        health = watch.health()
        assert (health.up, health.message) == (True, "")
        assert health.duration_seconds is not None
    assert all(query["fieldSelector"] == f"spec.nodeName={NODE}" for query in server.queries)


async def test_a_pod_that_is_gone_is_told_of_for_a_grace(server: SimulatedApiServer) -> None:
    clock = Clock()
    server.put("pods", manifest("a"))
    async with following(server, clock=clock, grace_seconds=60.0) as watch:
        await until(lambda: server.watches)
        server.delete("pods", "a", "research")
        server.put("pods", manifest("b"))
        await until(lambda: "b" in names(watch))
        clock.now += 59
        assert names(watch) == {"a", "b"}
        clock.now += 2
        assert names(watch) == {"b"}


async def test_a_pod_of_the_same_name_takes_the_place_of_the_one_before(
    server: SimulatedApiServer,
) -> None:
    clock = Clock()
    server.put("pods", manifest("a", uid="first"))
    async with following(server, clock=clock) as watch:
        await until(lambda: server.watches)
        server.delete("pods", "a", "research")
        server.put("pods", manifest("a", uid="second"))
        await until(lambda: watch.pods()[A].uid == "second")
        clock.now += 1000
        assert names(watch) == {"a"}


async def test_terminations_are_told_once(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("old", statuses=[ended(finished=SINCE - 1)]))
    server.put("pods", manifest("a", statuses=[ended(finished=SINCE + 1, exit_code=3)]))
    async with following(server) as watch:
        [first] = await taken(watch, 1)
        assert (first.container.pod, first.exit_code) == ("a", 3)
        # The same end again: in another state, in a new list, in the pod's last event.
        again = [running(restarts=1, last=terminated(SINCE + 1, exit_code=3))]
        server.put("pods", manifest("a", statuses=again))
        await until(lambda: server.watches)
        server.compact()
        server.break_watches()
        await until(lambda: watch.health().failures["expired"])
        await until(lambda: server.watches)
        server.delete("pods", "a", "research")
        server.put("pods", manifest("b", statuses=[ended(finished=SINCE + 2)]))
        [second] = await taken(watch, 1)
        assert second.container.pod == "b"


async def test_the_last_state_of_a_deleted_pod_is_read(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("a"))
    async with following(server) as watch:
        await until(lambda: server.watches)
        server._objects["pods"]["research/a"] = manifest("a", statuses=[ended(finished=2000)])
        server.delete("pods", "a", "research")
        [end] = await taken(watch, 1)
        assert end.finished_at == 2000.0


async def test_bookmarks_move_the_version_on(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("a"))
    async with following(server) as watch:
        await until(lambda: server.watches)
        for number in range(5):
            server.put("pods", manifest(f"elsewhere-{number}", node="node-b"))
        server.bookmark()
        server.end_watches()
        await until(lambda: server.calls["watch"] == 2)
        assert watch.health().failures["expired"] == 0
    watches = [query for query in server.queries if "watch" in query]
    assert int(watches[1]["resourceVersion"]) == int(watches[0]["resourceVersion"]) + 5
    assert server.calls["list"] == 1


async def test_an_expired_version_is_listed_anew(server: SimulatedApiServer) -> None:
    for name in ("a", "b"):
        server.put("pods", manifest(name))
    async with following(server, grace_seconds=0.0) as watch:
        await until(lambda: server.watches)
        server.break_watches()
        server.delete("pods", "a", "research")
        server.put("pods", manifest("c"))
        server.compact()
        await until(lambda: names(watch) == {"b", "c"})
        health = watch.health()
        assert health.up
        assert health.failures["expired"] == 1


ODD_LINES = {
    "garbage": b"<html>502 Bad Gateway</html>\n",
    "not_an_event": b'{"type":"ADDED","object":{"metadata":{"name":"x"}}}\n',
    "nested_without_end": b"[" * 200_000 + b"\n",
    "line_without_end": b"x" * (5 * 2**20),
}


@pytest.mark.parametrize("how", [*ODD_LINES, "break_watches", "end_watches"])
async def test_a_watch_that_goes_wrong_loses_nothing(server: SimulatedApiServer, how: str) -> None:
    server.put("pods", manifest("a"))
    async with following(server) as watch:
        await until(lambda: server.watches)
        if how in ODD_LINES:
            server.send_raw(ODD_LINES[how])
        else:
            getattr(server, how)()
        server.put("pods", manifest("b", statuses=[ended(finished=2000)]))
        [end] = await taken(watch, 1)
        assert end.container.pod == "b"
        await until(lambda: server.calls["watch"] == 2 and watch.health().up)
        assert sum(watch.health().failures.values()) == 1


async def test_objects_as_large_as_a_server_stores_them_pass(server: SimulatedApiServer) -> None:
    async with following(server) as watch:
        await until(lambda: server.watches)
        large = manifest("large")
        large["metadata"]["annotations"]["example.com/large"] = "x" * 3 * 2**20
        server.put("pods", large)
        await until(lambda: "large" in names(watch))
        assert sum(watch.health().failures.values()) == 0
        server.end_watches()
        await until(lambda: server.calls["watch"] == 2)
    assert server.calls["list"] == 1


async def test_a_server_that_restarts_is_picked_up(server: SimulatedApiServer) -> None:
    server.put("pods", manifest("a"))
    async with following(server) as watch:
        await until(lambda: server.watches)
        await server.stop()
        await until(lambda: not watch.health().up)
        assert watch.health().failures["unavailable"] > 1
        assert names(watch) == {"a"}
        server.put("pods", manifest("b"))
        await server.start()
        await until(lambda: names(watch) == {"a", "b"} and watch.health().up)


@pytest.mark.parametrize("on", ["list", "watch"])
async def test_a_server_that_hangs_ends_at_the_deadline(
    server: SimulatedApiServer, on: str
) -> None:
    server.put("pods", manifest("a"))
    server.fault = Fault(hangs=True, on=frozenset({on}))
    timing = Timing(request=0.1, watch=0.05, watch_grace=0.05, back_off=0.01, back_off_cap=0.02)
    async with following(server, timing=timing) as watch:
        reason = "timeout" if on == "list" else "stalled"
        await until(lambda: watch.health().failures[reason] >= 2)
        assert not watch.health().up
        server.fault = None
        await until(lambda: watch.health().up)


async def test_a_stalled_watch_is_taken_up_again(server: SimulatedApiServer) -> None:
    timing = Timing(watch=0.1, watch_grace=0.0, back_off=0.01, back_off_cap=0.02)
    async with following(server, timing=timing) as watch:
        await until(lambda: watch.health().failures["stalled"])
        server.put("pods", manifest("a"))
        await until(lambda: "a" in names(watch))


async def test_only_changes_are_logged(
    server: SimulatedApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.kubernetes")
    server.fault = Fault(status=500)
    async with following(server) as watch:
        await until(lambda: watch.health().failures["server_error"] >= 3)
        server.fault = None
        await until(lambda: server.watches)
        server.bookmark()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize("version", ["v1", "v1beta2", "v1beta1"])
async def test_dra_devices_by_any_version_of_the_api(version: str) -> None:
    of_version = basic if version == "v1beta1" else dict
    async with SimulatedApiServer(versions=frozenset({version})) as server:
        server.put("resourceslices", resource_slice(of_version(gpu())))
        async with following(server, dra=True) as watch:
            await until(watch.dra_devices)
            before = watch.dra_devices()
            assert before[DraName("gpu.nvidia.com", "node-a", "gpu-0")].uuid == GPU
            await until(lambda: server.watches == 2)
            server.put("resourceslices", resource_slice(of_version(gpu())))
            server.put("resourceslices", resource_slice(of_version(gpu()), of_version(mig())))
            await until(lambda: len(watch.dra_devices()) == 2)
            assert len(before) == 1
            server.delete("resourceslices", "node-a-gpu.nvidia.com-x7k2p")
            await until(lambda: not watch.dra_devices())


async def test_of_a_pool_the_newest_generation_holds(server: SimulatedApiServer) -> None:
    for generation, uuid in ((4, "GPU-new"), (3, "GPU-old")):
        found = resource_slice(gpu(uuid=uuid))
        found["metadata"] |= {"name": f"s-{generation}", "uid": f"uid-{generation}"}
        found["spec"]["pool"]["generation"] = generation
        server.put("resourceslices", found)
    async with following(server, dra=True) as watch:
        await until(watch.dra_devices)
        assert [device.uuid for device in watch.dra_devices().values()] == ["GPU-new"]


async def test_without_resource_slices_pods_are_still_followed() -> None:
    async with SimulatedApiServer(versions=frozenset()) as server:
        server.put("pods", manifest("a"))
        async with following(server, dra=True) as watch:
            await until(lambda: watch.health().up and watch.health().failures["not_found"])
            assert "resourceslices" in watch.health().message
            assert names(watch) == {"a"}


async def test_ten_thousand_events_arrive_and_memory_stays_flat(
    server: SimulatedApiServer,
) -> None:
    """Each pod comes, ends and goes, as on a node with much churn.

    The server tells of 100 changes a second, with seconds of 1/40, and waits for nobody; what has
    ended is taken once a second, as the program does.
    """
    second, pods, each_second = 1 / 40, 3334, 34
    found = bytearray(pods)  # takes no more room as it fills
    blocks: list[int] = []

    async def churn() -> None:
        begun = asyncio.get_running_loop().time()
        for number in range(pods):
            name = f"pod-{number}"
            server.put("pods", manifest(name, uid=name))
            end = ended(finished=2000, exit_code=number)
            server.put("pods", manifest(name, uid=name, statuses=[end]))
            server.delete("pods", name, "research")
            if number % each_second == each_second - 1:
                server._history.clear()
                due = begun + second * (number + 1) / each_second
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))

    async with following(server, grace_seconds=0.0) as watch:
        await until(lambda: server.watches)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(churn())
            while not all(found):
                await asyncio.sleep(second)
                for end in watch.take_terminations():
                    assert end.pod_uid == f"pod-{end.exit_code}"
                    found[end.exit_code] += 1
                if not blocks and found[pods // 5]:
                    gc.collect()
                    blocks.append(sys.getallocatedblocks())
        await until(lambda: not watch.pods())
        gc.collect()
        blocks.append(sys.getallocatedblocks())
        assert set(found) == {1}
        assert sum(watch.health().failures.values()) == 0
        kept = watch._pods
        sizes = [len(each) for each in (kept._here, kept._gone, kept._delivered, kept._untaken)]
        assert sizes == [0, 0, 0, 0]
    # One thing kept of each pod since would be 2667 more.
    assert blocks[1] - blocks[0] < pods / 4


async def test_what_is_gone_is_bounded_without_a_clock(server: SimulatedApiServer) -> None:
    async with following(server, clock=Clock()) as watch:
        await until(lambda: server.watches)
        for number in range(1500):
            server.put("pods", manifest(f"pod-{number}"))
            server.delete("pods", f"pod-{number}", "research")
        server.put("pods", manifest("last"))
        await until(lambda: "last" in names(watch))
        assert len(watch.pods()) == 1001
