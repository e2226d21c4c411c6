"""Alerts on the exporter itself, on Prometheus' own engine."""

from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check

GPU = 'node="n1",gpu="0",uuid="GPU-a"'
GPU_LABELS = {"node": "n1", "gpu": "0", "uuid": "GPU-a"}
UP = 'up{job="gpu/kube-gpu-exporter",instance="10.0.0.1:9400",node="n1"}'
BUILD = 'gpu_exporter_build_info{node="n1",version="1"}'
DURATION = 'gpu_exporter_source_duration_seconds{node="n1",source="nvml"}'
KNOWN = f"gpu_exporter_gpu_state{{{GPU}}}"

DOWN = Firing(
    "Prometheus can't scrape 10.0.0.1:9400 of job gpu/kube-gpu-exporter, or only now and then: of"
    " its node's GPUs nothing is known meanwhile, and their alerts can't fire.",
    {"job": "gpu/kube-gpu-exporter", "instance": "10.0.0.1:9400", "node": "n1"},
)
FLAPPING = Firing(DOWN.description, {"job": "gpu/kube-gpu-exporter", "instance": "10.0.0.1:9400"})

ABSENT = Firing(
    "Prometheus has no series of any GPU exporter: neither GPUs nor the alerts on them can be"
    " trusted.",
    {},
)
CAPACITY = 'kube_node_status_capacity{node="%s",resource="%s"}'


def missing(count: str) -> Firing:
    return Firing(
        f"Node n1 has GPUs ({count} by what is known), and no GPU exporter tells of them.",
        {"node": "n1"},
    )


def source_down(source: str) -> Firing:
    return Firing(
        f"The exporter of node n1 gets no answer from {source}; what it tells through that is"
        " missing.",
        {"node": "n1", "source": source},
    )


WATCHED = (
    Watched(
        "GPUExporterDown",
        "warning",
        "operator",
        (
            Case("ten minutes down", {UP: "1x5 0x20"}, {"15m": (), "16m": (DOWN,)}),
            Case("a restart", {UP: "1x5 0x4 1x20"}, {"10m": (), "20m": ()}),
            Case(
                "it crashes, comes back for four minutes, and crashes",
                {UP: "1x40 " + "0x4 1x3 " * 8},
                {"50m": (), "80m": (FLAPPING,), "90m": (FLAPPING,)},
            ),
            Case(
                "a slow start, and a long outage that is over",
                {UP: "0x6 1x40 0x8 1x40"},
                {f"{m}m": () for m in range(5, 95, 3)},
            ),
            Case(
                "a scrape fails now and then",
                {UP: "1x8 0 " * 10},
                {f"{m}m": () for m in range(40, 90, 5)},
            ),
            Case("its target is gone", {UP: "0x5 stale"}, {"16m": ()}),
            Case("another job", {'up{job="node-exporter",instance="x"}': "0x20"}, {"15m": ()}),
        ),
    ),
    Watched(
        "GPUExporterMissing",
        "warning",
        "operator",
        (
            Case(
                "the kubelet advertises GPUs",
                {
                    'kube_node_status_capacity{node="n1",resource="nvidia_com_gpu"}': "8x20",
                    'kube_node_status_capacity{node="n2",resource="cpu"}': "64x20",
                },
                {"14m": (), "15m": (missing("8"),)},
            ),
            Case(
                "an exporter tells",
                {
                    'kube_node_status_capacity{node="n1",resource="nvidia_com_gpu"}': "8x20",
                    BUILD: "1x20",
                },
                {"20m": ()},
            ),
            Case(
                "it told an hour ago, and nobody else knows",
                {KNOWN: "0x60 stale", BUILD: "1x60 stale"},
                {"60m": (), "90m": (missing("1"),), "150m": ()},
            ),
            Case(
                "the node is gone with its GPUs",
                {
                    KNOWN: "0x60 stale",
                    BUILD: "1x60 stale",
                    'kube_node_status_capacity{node="n1",resource="nvidia_com_gpu"}': "1x60 stale",
                    'kube_node_status_capacity{node="n2",resource="nvidia_com_gpu"}': "1x120",
                    'gpu_exporter_build_info{node="n2",version="1"}': "1x120",
                },
                {"90m": ()},
            ),
        ),
    ),
    Watched(
        "GPUExporterAbsent",
        "critical",
        "operator",
        (
            Case(
                "never any",
                {"up": "1x20"},
                {"14m": (), "15m": (ABSENT,)},
            ),
            Case(
                "there are GPUs",
                {CAPACITY % ("n1", "nvidia_com_mig_1g_10gb"): "7x40"},
                {"14m": (), "15m": (ABSENT,)},
            ),
            Case(
                "the nodes with GPUs are scaled away",
                {
                    BUILD: "1x20 stale",
                    CAPACITY % ("n1", "nvidia_com_gpu"): "8x20 stale",
                    CAPACITY % ("n2", "cpu"): "8x100",
                },
                {"40m": (), "90m": ()},
            ),
            Case(
                "one of two is left",
                {BUILD: "1x5 stale", 'gpu_exporter_build_info{node="n2"}': "1x30"},
                {"30m": ()},
            ),
            Case("back before its time", {BUILD: "1x5 _x12 1x20"}, {"17m": (), "37m": ()}),
        ),
    ),
    Watched(
        "GPUExporterSamplesStale",
        "warning",
        "operator",
        (
            Case(
                "the last sample gets old",
                {
                    f"gpu_exporter_last_sample_timestamp_seconds{{{GPU}}}": "0x20",
                    KNOWN: "0x20",
                },
                {
                    "7m": (),
                    "8m": (
                        Firing(
                            "GPU 0 (GPU-a) of node n1 was last read 8m 0s ago, though it counts as"
                            " ok.",
                            GPU_LABELS,
                        ),
                    ),
                },
            ),
            Case(
                "samples go on",
                {
                    f"gpu_exporter_last_sample_timestamp_seconds{{{GPU}}}": "0+60x20",
                    KNOWN: "0x20",
                },
                {"20m": ()},
            ),
            Case(
                "a lost GPU is told of elsewhere",
                {
                    f"gpu_exporter_last_sample_timestamp_seconds{{{GPU}}}": "0x20",
                    KNOWN: "0x1 1x20",
                },
                {"20m": ()},
            ),
            Case(
                "the exporter is gone",
                {
                    f"gpu_exporter_last_sample_timestamp_seconds{{{GPU}}}": "0x5 stale",
                    KNOWN: "0x5 stale",
                },
                {"10m": ()},
            ),
        ),
    ),
    Watched(
        "GPUExporterSourceDown",
        "warning",
        "operator",
        (
            Case(
                "the kubelet",
                {'gpu_exporter_source_up{node="n1",source="kubelet"}': "1x5 0x20"},
                {"15m": (), "16m": (source_down("kubelet"),)},
            ),
            Case(
                "the pod watch and the events",
                {
                    'gpu_exporter_source_up{node="n1",source="kubernetes"}': "0x20",
                    'gpu_exporter_source_up{node="n1",source="events"}': "0x20",
                },
                {"10m": (source_down("events"), source_down("kubernetes"))},
            ),
            Case(
                "the kubelet and the events of a node whose driver is down, or that has none",
                {
                    'gpu_exporter_source_up{node="n1",source="nvml"}': "0x20",
                    'gpu_exporter_source_up{node="n1",source="kubelet"}': "0x20",
                    'gpu_exporter_source_up{node="n1",source="events"}': "0x20",
                    'gpu_exporter_source_up{node="n2",source="nvml"}': "1x20",
                },
                {"15m": (source_down("kubelet"),)},
            ),
            Case(
                "what is another alert's, or given up on purpose",
                {
                    'gpu_exporter_source_up{node="n1",source="nvml"}': "0x20",
                    'gpu_exporter_source_up{node="n1",source="processes"}': "0x20",
                    'gpu_exporter_source_up{node="n1",source="kubernetes_events"}': "0x20",
                },
                {"20m": ()},
            ),
            Case(
                "the exporter is gone",
                {'gpu_exporter_source_up{node="n1",source="kubelet"}': "0x5 stale"},
                {"20m": ()},
            ),
        ),
    ),
    Watched(
        "GPUExporterSlow",
        "warning",
        "operator",
        (
            Case(
                "longer than its tick",
                {DURATION: "6x40"},
                {
                    "14m": (),
                    "15m": (
                        Firing(
                            "Reading nvml on node n1 took 6s on average over 10m, longer than 5s.",
                            {"node": "n1", "source": "nvml"},
                        ),
                    ),
                },
            ),
            Case(
                "a slow moment",
                {DURATION: "0.1x9 20 0.1x40"},
                {"15m": (), "30m": ()},
            ),
            Case(
                "the exporter is gone",
                {DURATION: "6x10 stale"},
                {"40m": ()},
            ),
        ),
    ),
    Watched(
        "GPUExporterUnresolvedClaims",
        "warning",
        "operator",
        (
            Case(
                "a claim on a device that is not seen",
                {'gpu_unresolved_claims{node="n1",reason="unknown_device"}': "0x5 2x20"},
                {
                    "20m": (),
                    "21m": (
                        Firing(
                            "2 claims of containers on node n1 match no device that the exporter"
                            " sees (unknown_device): these containers have no GPU series.",
                            {"node": "n1", "reason": "unknown_device"},
                        ),
                    ),
                },
            ),
            Case(
                "while slices change",
                {'gpu_unresolved_claims{node="n1",reason="unknown_device"}': "0x5 2x4 0x20"},
                {"25m": ()},
            ),
            Case(
                "the exporter is gone",
                {'gpu_unresolved_claims{node="n1",reason="unknown_device"}': "2x5 stale"},
                {"25m": ()},
            ),
        ),
    ),
    Watched(
        "Watchdog",
        "none",
        "operator",
        tuple(
            Case(
                what,
                series,
                {
                    "0m": (
                        Firing(
                            "If this stops arriving, Prometheus, Alertmanager or the way between"
                            " them is broken.",
                            {},
                        ),
                    )
                },
            )
            for what, series in (
                ("with nothing to watch", {"up": "_x5"}),
                ("when all is well", {UP: "1x5", BUILD: "1x5"}),
                ("when all is down", {UP: "0x5"}),
            )
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
