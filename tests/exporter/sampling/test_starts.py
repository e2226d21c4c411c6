"""When a container's present run began: what is reported, what was seen, and what nobody knows."""

from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import ContainerRecord, PodRecord
from exporter.sampling.starts import Starts

OLD, NEW = Container("ml", "old-0", "main"), Container("ml", "new-0", "main")


def at(seconds: float) -> UnixSeconds:
    return UnixSeconds(seconds)


def pod(container: Container, since: float | None) -> PodRecord:
    record = ContainerRecord(
        container.name, "id", running_since=None if since is None else at(since)
    )
    name, namespace = container.pod, container.namespace
    return PodRecord("uid", namespace, name, "Job", "train", containers=(record,))


def test_who_was_there_before_the_program_has_no_known_start() -> None:
    starts = Starts()
    starts.update({OLD}, at(100))
    starts.update({OLD, NEW}, at(130))
    assert starts.of([OLD, NEW], {}) == {NEW: at(130)}


def test_the_first_sight_stays_until_the_container_is_gone() -> None:
    starts = Starts()
    starts.update(frozenset(), at(100))
    starts.update({NEW}, at(130))
    starts.update({NEW}, at(500))
    assert starts.of([NEW], {}) == {NEW: at(130)}
    starts.update(frozenset(), at(600))
    starts.update({NEW}, at(700))
    assert starts.of([NEW], {}) == {NEW: at(700)}


def test_the_pod_watch_knows_each_run() -> None:
    starts = Starts()
    starts.update({OLD}, at(100))
    for since in (20, 7_220):  # it restarts in place
        assert starts.of([OLD], {OLD.pod_name: pod(OLD, since)}) == {OLD: at(since)}


def test_a_pod_without_a_running_container_has_the_first_sight() -> None:
    starts = Starts()
    starts.update(frozenset(), at(100))
    starts.update({NEW}, at(130))
    assert starts.of([NEW], {NEW.pod_name: pod(NEW, None)}) == {NEW: at(130)}


def test_nothing_is_known_before_the_kubelet_has_answered() -> None:
    assert Starts().of([OLD], {}) == {}
