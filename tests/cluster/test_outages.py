"""A kubelet or an API server that goes away and comes back costs nothing that was known before."""

import json
import time

import pytest

from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import stays, until
from tests.cluster.pods import CUDA_WORDS, FOREVER, GPU, container, pod, words_and_exit
from tests.cluster.report import report
from tests.cluster.scrapes import Exporter
from tests.cluster.test_verdicts import verdicts

pytestmark = pytest.mark.cluster

RESTARTS = 4
AWAY_SECONDS = 45.0
MINUTES_AWAY_SECONDS = 130.0


class Watched:
    """Two pods with devices, and what the exporter says of them again and again."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.wrong: list[str] = []
        """What was exported as if it were known, and was not so."""
        self.missing: list[str] = []
        """What was not exported while it could not be known."""

    def look(self) -> bool:
        """Look once; remember what is not as it should be."""
        text = self._exporter.get()[1]
        if not text:
            self.wrong.append("no answer")
            return False
        up = self._exporter.value("gpu_exporter_source_up", source="kubelet") == 1
        held = {pod: len(self._exporter.allocations(pod)) for pod in ("one", "two")}
        allocated = self._exporter.value("gpu_allocated_devices")
        right = held == {"one": 1, "two": 2} and (allocated or 0) >= 3
        if not right:
            found = self.wrong if up else self.missing
            found.append(f"held {held}, allocated {allocated}, kubelet up {up}")
        return right and up


@pytest.fixture
def watched(cluster: Cluster, exporter: Exporter) -> Watched:
    cluster.apply(
        pod("one", container(FOREVER), simulate="training", restart="Always"),
        pod("two", container(FOREVER, resources={GPU: 2}), restart="Always"),
    )
    exporter.until_mapped("one")
    exporter.until_mapped("two", 2)
    return Watched(exporter)


def until_right(watched: Watched, what: str, *, seconds: float = 120.0) -> float:
    """Wait until the kubelet answers and all is known; return how long that took."""
    began = time.monotonic()
    until(watched.look, what, seconds=seconds, show=lambda: "\n".join(watched.wrong[-5:]))
    return time.monotonic() - began


def allocatable_again(exporter: Exporter) -> float:
    began = time.monotonic()
    exporter.until(
        lambda: exporter.value("gpu_allocatable_devices", resource=GPU) == 4,
        "every device is advertised again",
    )
    return time.monotonic() - began


def test_a_kubelet_that_restarts_loses_no_allocation(
    cluster: Cluster, exporter: Exporter, watched: Watched
) -> None:
    times = []
    for _ in range(RESTARTS):
        cluster.node.kubelet.kill()
        exporter.until(
            lambda: exporter.value("gpu_exporter_source_up", source="kubelet") == 0,
            "the kubelet is missed",
        )
        cluster.node.kubelet.start()
        times.append(until_right(watched, "all is known again"))
        times[-1] += allocatable_again(exporter)
        # The kubelet lists pods, then all of their devices, over seconds.
        stays(watched.look, "nothing is lost", seconds=5)
    report("kubelet back to right again", most=max(times))
    assert not watched.wrong + watched.missing


def test_nor_does_one_that_restarts_while_the_api_server_is_away(
    cluster: Cluster, exporter: Exporter, watched: Watched
) -> None:
    """Without the API server a kubelet that starts knows no pods at first.

    For a minute the last claims stand; after that nothing is exported rather than something wrong.
    """
    cluster.control_plane.api_server.kill()
    try:
        cluster.node.kubelet.kill()
        exporter.until(
            lambda: exporter.value("gpu_exporter_source_up", source="kubelet") == 0,
            "the kubelet is missed",
        )
        cluster.node.kubelet.start()
        last = time.monotonic() + AWAY_SECONDS
        while time.monotonic() < last:
            watched.look()
        assert not watched.missing
    finally:
        cluster.control_plane.start()
        cluster.node.kubelet.start()
    until_right(watched, "all is known again")
    assert not watched.wrong


def test_an_api_server_that_restarts_is_followed_again_soon(
    cluster: Cluster, exporter: Exporter, watched: Watched
) -> None:
    times = []
    for number in range(RESTARTS):
        cluster.control_plane.api_server.kill()
        cluster.control_plane.start()
        times.append(verdict_seconds(cluster, exporter, f"after-{number}"))
    report("API server back to verdict of a pod of 8 s", most=max(times))
    # Of which the pod's start and life are 9 s.
    assert max(times) < 60
    assert not watched.wrong + watched.missing


def test_ends_while_the_api_server_is_away_for_minutes_are_judged_later(
    cluster: Cluster, exporter: Exporter, watched: Watched
) -> None:
    cluster.apply(pod("meanwhile", container(words_and_exit(CUDA_WORDS, 1, after="20"))))
    exporter.until_mapped("meanwhile")
    cluster.control_plane.api_server.kill()
    try:
        stays(watched.look, "allocations stay", seconds=MINUTES_AWAY_SECONDS)
    finally:
        cluster.control_plane.start()
    began = time.monotonic()
    exporter.until(lambda: verdicts(exporter, "meanwhile"), "the end is judged")
    report("API server back after 2 minutes to verdict", seconds=time.monotonic() - began)
    assert sum(verdicts(exporter, "meanwhile").values()) == 1
    assert not watched.wrong + watched.missing


def verdict_seconds(cluster: Cluster, exporter: Exporter, name: str) -> float:
    """Return how long after the API server is ready the end of a pod of 8 s is judged."""
    began = time.monotonic()
    manifest = pod(name, container(words_and_exit(CUDA_WORDS, 1, after="8")))

    def created() -> bool:
        return not cluster.kubectl(
            "create", "--filename=-", stdin=json.dumps(manifest), check=False
        ).returncode

    until(created, f"{name} is created")
    exporter.until(lambda: verdicts(exporter, name), f"{name} is judged")
    return time.monotonic() - began
