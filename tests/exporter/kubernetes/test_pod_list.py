"""What a list of pods costs, and what is made of those in it that can't be read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from exporter.kubernetes import pods
from exporter.kubernetes.simulated import SimulatedApiServer
from exporter.model.claims import PodName
from exporter.model.ends import NO_WORDS, LastWords
from tests.doubles.api_manifests import ended, manifest
from tests.doubles.following import SINCE, following, names, taken, until


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


@pytest.mark.parametrize("whole", [False, True])
async def test_long_lists_come_in_pages_or_whole(server: SimulatedApiServer, whole: bool) -> None:  # noqa: FBT001
    server.ignores_limit = whole
    for number in range(250):
        server.put("pods", manifest(f"pod-{number}"))
    async with following(server) as watch:
        await until(lambda: watch.health().up)
        assert len(watch.pods()) == 250
    assert server.calls["list"] == (1 if whole else 3)


def malformed(name: str) -> dict[str, object]:
    return manifest(name) | {"status": {"containerStatuses": [{"restartCount": 1}]}}


async def test_a_pod_that_can_t_be_read_costs_no_others(
    server: SimulatedApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "bad", "c"):
        server.put("pods", manifest(name) if name != "bad" else malformed(name))
    nameless = manifest("nameless")
    del nameless["metadata"]["uid"]
    server.put("pods", nameless)
    async with following(server) as watch:
        await until(lambda: watch.health().up)
        assert names(watch) == {"a", "c"}
        assert watch.health().failures["malformed"] == 2
        assert "bad can't be read" in caplog.text
        server.put("pods", malformed("worse"))
        server.put("pods", malformed("a"))
        server.delete("pods", "bad", "research")
        server.put("pods", manifest("d"))
        await until(lambda: "d" in names(watch))
        assert names(watch) == {"a", "c", "d"}  # of a, what was last known
        assert watch.health().failures["malformed"] == 5
        server.put("pods", manifest("worse"))
        await until(lambda: "worse" in names(watch))
    assert server.calls["list"] == 1


async def test_a_label_that_is_no_text_costs_that_label_alone(
    server: SimulatedApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    odd = manifest("odd", labels={"team": "nlp"})
    odd["metadata"]["labels"]["app"] = None
    server.put("pods", odd)
    async with following(server, labels=["*"]) as watch:
        await until(lambda: watch.health().up)
        assert watch.pods()[PodName("research", "odd")].labels == {"team": "nlp"}
        assert watch.health().failures["malformed"] == 1
        assert "label app of odd is no text" in caplog.text


async def test_a_long_list_leaves_time_for_scrapes(server: SimulatedApiServer) -> None:
    server.ignores_limit = True
    for number in range(250):
        server.put("pods", manifest(f"pod-{number}"))
    turns = 0
    async with following(server) as watch:
        while len(watch.pods()) < 250:
            turns += bool(watch.pods())
            await asyncio.sleep(0)
    assert turns > 100


async def test_what_is_known_of_an_end_is_not_read_again(
    server: SimulatedApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str | None] = []

    def noting(message: str | None) -> LastWords:
        read.append(message)
        return NO_WORDS

    monkeypatch.setattr(pods, "read", noting)
    server.put("pods", manifest("old", statuses=[ended(finished=SINCE - 1, message="long ago")]))
    server.put("pods", manifest("a", statuses=[ended(finished=SINCE + 1, message="now")]))
    async with following(server) as watch:
        await taken(watch, 1)
        server.compact()
        server.end_watches()
        await until(lambda: server.calls["list"] == 2 and server.watches)
    assert read == ["now"]
