"""What is kept of a pod, and how its containers ended."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.endings.reading import read
from exporter.kubernetes.failures import MALFORMED
from exporter.kubernetes.pods import EXEMPT, Patterns, parse_pod, parse_terminations
from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import ContainerRecord, Exemption, PodRecord, Termination
from tests.doubles.api_manifests import ended, manifest, requesting, running, terminated


def ends(pod: dict[str, Any]) -> Sequence[Termination]:
    return [end.termination for end in parse_terminations(pod)]


def test_what_we_need_is_kept_and_the_rest_dropped() -> None:
    pod = manifest(
        "llm-0",
        labels={"app": "llm", "team": "nlp", "example.com/secret": "x"},
        owner=("apps/v1", "StatefulSet", "llm"),
        statuses=[running("server", restarts=3), {"name": "pulling", "state": {"waiting": {}}}],
    )
    assert parse_pod(pod, Patterns(["team", "app*"])) == PodRecord(
        uid="uid-of-llm-0",
        namespace="research",
        name="llm-0",
        workload_kind="StatefulSet",
        workload="llm",
        labels={"app": "llm", "team": "nlp"},
        containers=(
            ContainerRecord("server", "server-3", UnixSeconds(1000.0)),
            ContainerRecord("pulling"),
        ),
    )


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        ([], set()),
        (["team"], {"team"}),
        (["Team"], set()),
        (["example.com/*"], {"example.com/cost-centre", "example.com/owner"}),
        (["*"], {"team", "example.com/cost-centre", "example.com/owner"}),
    ],
)
def test_labels_on_the_list_are_kept(patterns: list[str], kept: set[str]) -> None:
    labels = {"team": "a", "example.com/cost-centre": "b", "example.com/owner": "c"}
    assert parse_pod(manifest(labels=labels), Patterns(patterns)).labels.keys() == kept


@pytest.mark.parametrize(
    ("annotation", "label", "exempt"),
    [
        (None, None, set()),
        ("", "all", set()),
        ("underuse", None, {"underuse"}),
        (None, "memory", {"memory"}),
        ("memory", "all", {"memory"}),
        (" underuse, memory,underuse", None, {"memory", "underuse"}),
        ("all,Memory,sleep,", None, {"all"}),
    ],
)
def test_exemptions_are_the_known_words(
    annotation: str | None, label: str | None, exempt: set[str]
) -> None:
    pod = manifest(labels={} if label is None else {EXEMPT: label})
    pod["metadata"]["annotations"] = None if annotation is None else {EXEMPT: annotation}
    assert parse_pod(pod, Patterns()).exempt == {Exemption(word) for word in exempt}


def test_a_pod_without_status_has_no_containers_yet() -> None:
    pod = manifest()
    del pod["status"], pod["metadata"]["labels"]
    assert parse_pod(pod, Patterns(["*"])).containers == ()
    assert ends(pod) == []


def test_a_termination_as_the_status_tells_it() -> None:
    pod = manifest(
        statuses=[ended(finished=2000, exit_code=1, message="CUDA out of memory.", restarts=2)]
    )
    assert ends(pod) == [
        Termination(
            container=Container("research", "pod", "main"),
            pod_uid="uid-of-pod",
            restart_count=2,
            exit_code=1,
            reason="Error",
            words=read("CUDA out of memory."),
            started_at=UnixSeconds(1940),
            finished_at=UnixSeconds(2000),
            has_shm=False,
        )
    ]


def test_the_last_state_is_of_the_run_before() -> None:
    pod = manifest(statuses=[running(restarts=1, last=terminated(2000, exit_code=137))])
    assert [(end.restart_count, end.exit_code) for end in ends(pod)] == [(0, 137)]


def test_while_a_restart_waits_it_is_not_counted_yet() -> None:
    status = running(restarts=0, last=terminated(2000)) | {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}
    }
    assert [end.restart_count for end in ends(manifest(statuses=[status]))] == [0]


def test_both_states_are_told_and_keep_their_keys_as_they_move() -> None:
    first, second = terminated(2000, container_id="a"), terminated(2100, container_id="b")
    both = running(restarts=1, last=first) | {"state": {"terminated": second}}
    [one, two] = parse_terminations(manifest(statuses=[both]))
    assert (one.termination.restart_count, two.termination.restart_count) == (0, 1)
    [moved] = parse_terminations(manifest(statuses=[running(restarts=2, last=second)]))
    assert (moved.key, moved.termination) == (two.key, two.termination)
    assert one.key != two.key


GPUS = Patterns(["nvidia.com/gpu", "nvidia.com/mig-*"])


def test_an_init_container_ends_like_others_if_it_stays_or_had_a_device() -> None:
    pod = manifest(
        statuses=[ended(finished=2003)],
        initContainerStatuses=[
            ended("setup", finished=2000, exit_code=0, reason="Completed"),
            ended("warm-up", finished=2001),
            ended("sidecar", finished=2002),
        ],
    )
    pod["spec"]["initContainers"] = [
        {"name": "setup"},
        requesting("warm-up"),
        {"name": "sidecar", "restartPolicy": "Always"},
    ]
    found = [end.termination for end in parse_terminations(pod, GPUS)]
    assert [(end.container.name, end.init, end.wants_devices) for end in found] == [
        ("warm-up", True, True),
        ("sidecar", True, False),
        ("main", False, False),
    ]
    names = [container.name for container in parse_pod(pod, Patterns()).containers]
    assert names == ["sidecar", "main"]


@pytest.mark.parametrize(
    ("spec", "wants"),
    [
        ({"containers": [{"name": "main"}]}, False),
        ({"containers": [{"name": "main"}, requesting("second")]}, True),
        ({"containers": [requesting(resource="nvidia.com/mig-1g.10gb")]}, True),
        ({"containers": [requesting(resource="example.com/nic")]}, False),
        ({"containers": [{"name": "main", "resources": {"limits": None}}]}, False),
        ({"containers": [{"name": "main"}], "initContainers": [requesting("warm-up")]}, True),
        ({"containers": [{"name": "main", "resources": {"claims": [{"name": "gpu"}]}}]}, True),
    ],
)
def test_a_pod_wants_devices_by_a_resource_or_by_a_claim(
    spec: dict[str, Any],
    wants: bool,  # noqa: FBT001
) -> None:
    assert parse_pod(manifest() | {"spec": spec}, Patterns(), GPUS).wants_devices is wants


@pytest.mark.parametrize(
    ("phase", "over"),
    [("Pending", False), ("Running", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_has_ended_by_its_phase(phase: str, over: bool) -> None:  # noqa: FBT001
    assert parse_pod(manifest(phase=phase), Patterns()).ended is over


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], {}])
@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_a_label_or_annotation_that_is_no_text_is_left_out_and_counted(
    field: str, value: object
) -> None:
    pod = manifest("odd")
    pod["metadata"][field] = {"team": value, "app": "llm", EXEMPT: value}
    malformed: list[str] = []
    record = parse_pod(pod, Patterns(["*"]), malformed=malformed.append)
    assert record.labels == ({"app": "llm"} if field == "labels" else {})
    assert record.exempt == set()
    kind = field.removesuffix("s")
    assert sorted(malformed) == [f"{kind} {EXEMPT} of odd", f"{kind} team of odd"]


FULL = manifest(
    "llm-0",
    labels={"app": "llm", EXEMPT: "all"},
    owner=("apps/v1", "StatefulSet", "llm"),
    containers=[requesting(), {"name": "second"}],
    statuses=[
        running(restarts=2, last=terminated(2000, message="CUDA out of memory")),
        ended("second", finished=2100, message="Killed", restarts=1, last=terminated(2050)),
    ],
    initContainerStatuses=[ended("warm-up", finished=1990)],
    reason="Evicted",
)
FULL["spec"]["initContainers"] = [requesting("warm-up")]
FULL["metadata"]["annotations"] = {EXEMPT: "underuse"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
) | st.sampled_from(
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2023-11-14T22:14:20Z"]
)


def paths(found: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value within ``found`` lies."""
    inner: Iterable[tuple[Any, Any]] = found.items() if isinstance(found, dict) else ()
    inner = enumerate(found) if isinstance(found, list) else inner
    for key, value in inner:
        yield (*path, key)
        yield from paths(value, (*path, key))


@given(st.lists(st.tuples(st.sampled_from(list(paths(FULL))), JSON), min_size=1, max_size=3))
def test_whatever_is_in_a_pod_it_is_read_right_or_refused(
    changes: list[tuple[tuple[Any, ...], object]],
) -> None:
    pod = deepcopy(FULL)
    for (*parents, last), value in changes:
        at: Any = pod
        with suppress(KeyError, IndexError, TypeError):  # an earlier change has removed the place
            for key in parents:
                at = at[key]
            at[last] = value
    with suppress(*MALFORMED):
        record = parse_pod(pod, Patterns(["*"]), GPUS)
        texts = [record.uid, record.namespace, record.name, record.workload_kind, record.workload]
        texts += [*record.labels, *record.labels.values()]
        texts += [container.name for container in record.containers]
        assert [text for text in texts if not isinstance(text, str)] == []
    with suppress(*MALFORMED):
        for end in parse_terminations(pod, GPUS):
            found = end.termination
            assert isinstance(found.reason + found.pod_uid + found.container.name, str)
            assert isinstance(found.exit_code + found.restart_count, int)
            assert isinstance(found.finished_at, float)


@pytest.mark.parametrize(
    ("phase", "pod_reason", "own", "told"),
    [
        ("Failed", "Evicted", "Error", "Evicted"),
        ("Failed", "Evicted", "OOMKilled", "OOMKilled"),
        ("Failed", "Evicted", "Completed", "Completed"),
        ("Failed", "DeadlineExceeded", "Error", "DeadlineExceeded"),
        ("Failed", None, "Error", "Error"),
        ("Running", "Evicted", "Error", "Error"),
    ],
)
def test_a_pod_that_failed_as_a_whole_says_why(
    phase: str, pod_reason: str | None, own: str, told: str
) -> None:
    status = ended(
        finished=2100, exit_code=137, reason=own, restarts=1, last=terminated(2000, reason="Error")
    )
    pod = manifest(statuses=[status], phase=phase, reason=pod_reason)
    assert [end.reason for end in ends(pod)] == ["Error", told]


def test_runs_that_the_kubelet_lost_are_left_out() -> None:
    lost = terminated(2000, exit_code=137, reason="ContainerStatusUnknown")
    lost |= {"startedAt": None, "finishedAt": None}
    assert ends(manifest(statuses=[running(restarts=1, last=lost)])) == []


def test_a_run_that_never_started_has_no_start() -> None:
    unstarted = ended(finished=2000, reason="StartError", exit_code=128)
    unstarted["state"]["terminated"]["startedAt"] = "1970-01-01T00:00:00Z"
    [end] = ends(manifest(statuses=[unstarted]))
    assert end.started_at is None
    assert end.finished_at == 2000.0


@pytest.mark.parametrize("broken", [{}, {"metadata": {}}, {"metadata": {"name": "a"}, "spec": {}}])
def test_what_is_no_pod_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(KeyError):
        parse_pod(broken, Patterns())


def test_a_run_of_which_no_reason_is_told_has_none() -> None:
    unexplained = ended(finished=2000)
    del unexplained["state"]["terminated"]["reason"]
    assert [end.reason for end in ends(manifest(statuses=[unexplained]))] == [""]
