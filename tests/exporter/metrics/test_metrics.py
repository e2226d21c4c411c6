"""The table's promises, which neither prometheus_client nor promtool keeps for us."""

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.metrics.exposition import Exposition, Format, SnapshotCollector
from exporter.metrics.family import UNITS, Family, Kind
from exporter.metrics.lines import EOF, Lines, One
from exporter.metrics.table import TABLE
from exporter.model.claims import Claim, Claims, Container
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import Exemption, PodRecord
from exporter.model.snapshot import Snapshot
from tests.doubles.scripted import Harness, ManualClock, gpu

# Plain numbers: counts, states, and facts that are 1.
UNITLESS = {
    "gpu_processes",
    "gpu_clock_event_active",
    "gpu_performance_state",
    "gpu_pcie_link_generation",
    "gpu_pcie_link_width",
    "gpu_pcie_link_generation_max",
    "gpu_pcie_link_width_max",
    "gpu_nvlink_active_links",
    "gpu_remapped_rows",
    "gpu_row_remap_pending",
    "gpu_row_remap_failed",
    "gpu_row_remap_banks",
    "gpu_retired_pages",
    "gpu_retired_pages_pending",
    "gpu_recovery_action",
    "gpu_allocatable_devices",
    "gpu_allocated_devices",
    "gpu_unresolved_claims",
    "gpu_exporter_gpus",
    "gpu_exporter_gpu_state",
    "gpu_exporter_source_up",
}


def exposition(snapshot: Snapshot, node: str = "") -> Exposition:
    return Exposition(lambda: snapshot, node=node, beside=CollectorRegistry())


def claims_of(*pods: str) -> Claims:
    return Claims(
        held=tuple(
            Claim(Container("ml", pod, "main"), "nvidia.com/gpu", gpu(index).uuid)
            for index, pod in enumerate(pods)
        )
    )


@pytest.fixture
def snapshot() -> Snapshot:
    harness = Harness(claims=claims_of('we"ird\\pod\nname'))
    harness.run(5)
    return harness.sampler.snapshot


def test_names_are_unique() -> None:
    assert len({family.name for family in TABLE}) == len(TABLE)
    assert len({family.base_name for family in TABLE}) == len(TABLE)


@pytest.mark.parametrize("family", TABLE, ids=lambda family: family.name)
def test_name_unit_labels_and_help(family: Family) -> None:
    assert re.fullmatch(r"gpu(_[a-z0-9]+)+", family.name)
    if family.kind is Kind.GAUGE:
        assert bool(family.unit) is (family.name not in UNITLESS)
    elif family.kind is Kind.COUNTER and not family.unit:
        counted = family.base_name.rpartition("_")[2]
        assert counted in {"errors", "replays", "failures", "events", "kills", "ends"}
    assert not set(family.base_name.split("_")[:-1]) & set(UNITS)
    assert len(set(family.labels)) == len(family.labels)
    assert "node" not in family.labels
    assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in family.labels)
    assert re.fullmatch(r"[A-Z][^\n|]+\.", family.help)


def test_device_families_carry_no_label_that_changes() -> None:
    fixed = {"uuid", "gpu", "gpu_uuid", "gpu_instance", "profile"}
    keys = {
        "engine",
        "pipe",
        "type",
        "domain",
        "reason",
        "sensor",
        "threshold",
        "fan",
        "kind",
        "severity",
        "location",
        "cause",
        "availability",
        "action",
        "xid",
        "state",
        "confidence",
        "cotenant_namespace",
        "cotenant_pod",
        "cotenant_container",
    }
    for family in TABLE:
        if family.kind is not Kind.INFO and "uuid" in family.labels:
            assert set(family.labels) <= fixed | keys | {"namespace", "pod", "container"}


def test_both_formats_say_the_same(snapshot: Snapshot) -> None:
    rendered = exposition(snapshot, node="node-1")
    text, openmetrics = rendered.render(), rendered.render(Format.OPENMETRICS)
    ours = flat(parse_text(text.decode()))
    assert ours == flat(parse_openmetrics(openmetrics.decode()))  # type: ignore[no-untyped-call]
    assert all(("node", "node-1") in labels for _, labels, _ in ours)


def flat(families: Iterable[Metric]) -> set[tuple[str, tuple[tuple[str, str], ...], float]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in families
        for sample in family.samples
    }


def test_label_values_arrive_escaped_and_whole(snapshot: Snapshot) -> None:
    text = exposition(snapshot).render().decode()
    assert r'pod="we\"ird\\pod\nname"' in text
    pods = {
        sample.labels["pod"]
        for family in parse_text(text)
        for sample in family.samples
        if "pod" in sample.labels
    }
    assert pods == {'we"ird\\pod\nname'}


def test_text_that_utf_8_can_t_write_costs_a_character_and_no_scrape(snapshot: Snapshot) -> None:
    (held,) = snapshot.containers
    odd = Container("ml", "half\ud800", "\udcff")
    allocation = replace(held.allocation, container=odd)
    current = replace(snapshot, containers=(replace(held, allocation=allocation),))
    for form in Format:
        body = exposition(current).render(form).decode()
        assert 'pod="half?"' in body
        assert 'container="?"' in body


def test_pod_labels_follow_those_of_the_allocation(snapshot: Snapshot) -> None:
    (held,) = snapshot.containers
    pod = PodRecord("uid", "ml", "x", "Job", "train", {"app.kubernetes.io/name": "a", "team": "b"})
    pod = replace(pod, exempt=frozenset({Exemption.UNDERUSE, Exemption.MEMORY}))
    keys = ("team", "app.kubernetes.io/name", "other")
    labelled = replace(snapshot, containers=(replace(held, pod=pod),), pod_labels=keys)
    text = (
        Exposition(lambda: labelled, pod_labels=keys, beside=CollectorRegistry()).render().decode()
    )
    (info,) = [s for f in parse_text(text) for s in f.samples if s.name == "gpu_allocation_info"]
    assert info.labels["label_team"] == "b"
    assert info.labels["label_app_kubernetes_io_name"] == "a"
    assert info.labels["label_other"] == ""
    assert (info.labels["workload_kind"], info.labels["workload"]) == ("Job", "train")
    assert info.labels["exempt"] == "memory,underuse"
    others = [s for f in parse_text(text) for s in f.samples if s.name != "gpu_allocation_info"]
    assert not any(label.startswith("label_") for other in others for label in other.labels)


def test_no_node_name_no_node_label(snapshot: Snapshot) -> None:
    assert b"node=" not in exposition(snapshot).render()


def test_bytes_are_kept_until_the_snapshot_changes(snapshot: Snapshot) -> None:
    current = snapshot
    rendered = Exposition(lambda: current, beside=CollectorRegistry())
    first = rendered.render()
    assert rendered.render() is first
    assert rendered.render(zipped=True) is rendered.render(zipped=True)
    current = Snapshot(timestamp=UnixSeconds(0.0), backend="nvml")
    assert rendered.render() != first


ACCEPTS = {
    "": Format.TEXT,
    "text/plain;version=1.0.0;escaping=allow-utf-8": Format.TEXT,
    "application/openmetrics-text;version=1.0.0": Format.OPENMETRICS,
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8": Format.OPENMETRICS,
}
"""Under each of these media types, prometheus_client writes the same bytes as we do."""


@pytest.mark.parametrize("accept", ACCEPTS)
def test_kept_lines_are_what_prometheus_client_writes(accept: str) -> None:
    harness = Harness(claims=claims_of("a", 'b"\n\\'))
    rendered = Exposition(
        lambda: harness.sampler.snapshot, node="node-1", beside=CollectorRegistry()
    )
    for names in (["a", "b"], ["b", "c {d} "], []):
        harness.claims.current = claims_of(*names)
        harness.run(5)
        collector = SnapshotCollector(lambda: harness.sampler.snapshot, "node-1")
        assert rendered.render(ACCEPTS[accept]) == choose_encoder(accept)[0](collector)


LABEL = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.lists(st.lists(st.tuples(LABEL, LABEL), unique=True, max_size=5), max_size=4),
    st.floats(),
    st.sampled_from(list(ACCEPTS)),
)
def test_any_label_and_value_is_written_as_prometheus_client_does(
    snapshots: list[list[tuple[str, str]]], number: float, accept: str
) -> None:
    family = Family("gpu_x_bytes", "X.", ("a", "b"), lambda _: ())
    collector = SnapshotCollector(lambda: Snapshot(UnixSeconds(0.0), "nvml"))
    encode, _ = choose_encoder(accept)
    lines = Lines(encode, collector.metric)
    for labels in snapshots:
        points = [(values, number) for values in labels]
        expected = encode(One(collector.metric(family, points))).decode().removesuffix(EOF)
        assert lines.encode(family, points) == (expected if points else "")


def test_formats_of_late_are_rendered_before_they_are_asked_for() -> None:
    clock, current = ManualClock(), Snapshot(timestamp=UnixSeconds(0.0), backend="nvml")
    rendered = Exposition(lambda: current, beside=CollectorRegistry(), clock=clock)
    rendered.render(zipped=True)
    current = Snapshot(timestamp=UnixSeconds(1.0), backend="nvml")
    rendered.refresh()
    assert set(rendered._kept) == {(Format.TEXT, zipped) for zipped in (False, True)}
    clock.now += 1000.0
    current = Snapshot(timestamp=UnixSeconds(2.0), backend="nvml")
    rendered.refresh()
    assert rendered._kept_of is not current  # nobody has asked for long


def names_of(body: bytes) -> set[str]:
    return {sample.name for family in parse_text(body.decode()) for sample in family.samples}


def test_every_series_that_is_served_can_be_asked_for_by_its_name(snapshot: Snapshot) -> None:
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    rendered = Exposition(lambda: snapshot, beside=process)
    served = names_of(rendered.render())
    assert {"process_cpu_seconds_total", "process_open_fds", "gpu_busy_seconds_total"} <= served
    for name in served:
        assert names_of(rendered.render(names=[name])) == {name}
        openmetrics = rendered.render(Format.OPENMETRICS, names=[name])
        assert openmetrics.endswith(b"# EOF\n")
        assert f"\n{name}".encode() in openmetrics
    assert names_of(rendered.render(names=list(served))) == served


def test_a_family_can_be_asked_for_by_the_name_that_openmetrics_gives_it(
    snapshot: Snapshot,
) -> None:
    body = exposition(snapshot).render(names=["gpu_busy_seconds", "gpu_no_such"])
    assert names_of(body) == {"gpu_busy_seconds_total"}


def test_label_count_is_held() -> None:
    broken = Family("gpu_x", "X.", ("a", "b"), lambda _: ())
    with pytest.raises(ValueError, match="zip"):
        SnapshotCollector(lambda: Snapshot(UnixSeconds(0.0), "nvml")).metric(
            broken, [(("1",), 1.0)]
        )
