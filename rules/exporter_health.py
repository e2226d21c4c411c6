"""Alerts on the exporter itself: a monitoring system that stopped seeing."""

from typing import Final

from rules.alert import GPU, Alert, Audience, Dashboard
from rules.setting import ratio, seconds, window

EXPORTER: Final = (
    # What crashes and comes back is never down for long. It silences nothing else on its node, for
    # it tells no node.
    Alert(
        name="GPUExporterDown",
        severity="warning",
        for_="10m",
        settings={
            "window": window("30m"),
            "scraped": ratio(
                0.8, "Part of the scrapes that succeed, of an exporter that comes and goes."
            ),
        },
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=("job", "instance", "node"),
        summary="A GPU exporter can't be scraped.",
        description=(
            "Prometheus can't scrape {{ $labels.instance }} of job {{ $labels.job }}, or only now"
            " and then: of its node's GPUs nothing is known meanwhile, and their alerts can't fire."
        ),
        expr="""
            max by (job, instance, node) (up{job=~"${job}"}) == 0
            or
            max by (job, instance) (avg_over_time(up{job=~"${job}"}[${window}])) < ${scraped}
            and on (job, instance) changes(up{job=~"${job}"}[${window}]) >= 4
        """,
    ),
    # What nodes have is told by kube-state-metrics; where there is none, by our own past.
    Alert(
        name="GPUExporterMissing",
        severity="warning",
        for_="15m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=("node",),
        summary="A node with GPUs has no exporter.",
        description=(
            "Node {{ $labels.node }} has GPUs ({{ $value }} by what is known), and no GPU"
            " exporter tells of them."
        ),
        expr="""
            (
              sum by (node) (
                kube_node_status_capacity{resource=~"nvidia_com_(gpu|mig).*"}
              ) > 0
              or
              (node:gpu_known:gpus offset 1h) > 0
              unless on () kube_node_status_capacity{resource=~"nvidia_com_(gpu|mig).*"}
            )
            unless on (node) gpu_exporter_build_info
        """,
    ),
    # Where all nodes with GPUs are scaled away there is nothing to see, if anybody can tell.
    Alert(
        name="GPUExporterAbsent",
        severity="critical",
        for_="15m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=(),
        summary="No GPU exporter tells anything at all.",
        description=(
            "Prometheus has no series of any GPU exporter: neither GPUs nor the alerts on them"
            " can be trusted."
        ),
        expr="""
            absent(gpu_exporter_build_info)
            and
            (
              sum(kube_node_status_capacity{resource=~"nvidia_com_(gpu|mig).*"}) > 0
              or
              absent(kube_node_status_capacity)
            )
        """,
    ),
    Alert(
        name="GPUExporterSamplesStale",
        severity="warning",
        for_="5m",
        settings={"ageSeconds": seconds(120.0, "Age from which a GPU's last sample is stale.")},
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=GPU,
        summary="A GPU has not been read for a while.",
        description=(
            "${GPU} was last read {{ $value | humanizeDuration }} ago, though it counts as ok."
        ),
        expr="""
            max by (${GPU}) (time() - gpu_exporter_last_sample_timestamp_seconds) > ${ageSeconds}
            and on (node, uuid) gpu_exporter_gpu_state == 0
        """,
    ),
    # The driver's failure is GPUDriverDown's. Others are given up on purpose without their rights.
    # Events are the driver's too: on a node without GPUs there are none.
    Alert(
        name="GPUExporterSourceDown",
        severity="warning",
        for_="10m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=("node", "source"),
        summary="A source of the GPU exporter does not answer.",
        description=(
            "The exporter of node {{ $labels.node }} gets no answer from {{ $labels.source }};"
            " what it tells through that is missing."
        ),
        expr="""
            max by (node, source) (
              gpu_exporter_source_up{source!~"nvml|simulated|processes|kubernetes_events"}
            ) == 0
            unless on (node, source)
            (
              gpu_exporter_source_up{source="events"}
              and on (node) gpu_exporter_source_up{source=~"nvml|simulated"} == 0
            )
        """,
    ),
    Alert(
        name="GPUExporterSlow",
        severity="warning",
        for_="15m",
        settings={
            "window": window("10m"),
            "tickSeconds": seconds(
                5.0, "The exporter's full-interval, or kubelet-interval if longer."
            ),
        },
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=("node", "source"),
        summary="A GPU exporter's collection takes longer than its tick.",
        description=(
            "Reading {{ $labels.source }} on node {{ $labels.node }} took {{ $value |"
            " humanizeDuration }} on average over ${window}, longer than {{ ${tickSeconds} |"
            " humanizeDuration }}."
        ),
        expr="""
            max by (node, source) (
              avg_over_time(gpu_exporter_source_duration_seconds{source!="kubernetes"}[${window}])
            ) > ${tickSeconds}
        """,
    ),
    Alert(
        name="GPUExporterUnresolvedClaims",
        severity="warning",
        for_="15m",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=("node", "reason"),
        summary="Containers hold devices that the GPU exporter does not see.",
        description=(
            "{{ $value }} claims of containers on node {{ $labels.node }} match no device that"
            " the exporter sees ({{ $labels.reason }}): these containers have no GPU series."
        ),
        expr="max by (node, reason) (gpu_unresolved_claims) > 0",
    ),
    Alert(
        name="Watchdog",
        severity="none",
        for_="0s",
        audience=Audience.OPERATOR,
        dashboard=Dashboard.EXPORTER,
        labels=(),
        summary="Always fires, to prove that alerts arrive.",
        description=(
            "If this stops arriving, Prometheus, Alertmanager or the way between them is broken."
        ),
        expr="vector(1)",
    ),
)
