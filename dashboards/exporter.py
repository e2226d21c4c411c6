"""The exporter itself."""

from dashboards import thresholds
from dashboards.expressions import or_zero
from dashboards.layer import units
from dashboards.layer.colours import CRITICAL, GOOD, above, by_name, states
from dashboards.layer.outline import Outline, Row
from dashboards.layer.panels import bargauge, stat, state_timeline, timeseries
from dashboards.layer.queries import Query
from dashboards.layer.tables import Column, table

_AGE = "time() - gpu_exporter_last_sample_timestamp_seconds"
_SEEN = "max by (instance, job, node) (last_over_time(gpu_exporter_build_info[$__range]))"


def _ours(series: str) -> str:
    """Narrow a series that Prometheus or a process adds to every scrape to our exporters."""
    return (
        f"{series} * on (instance, job) group_left (node) max by (instance, job, node)"
        " (gpu_exporter_build_info)"
    )


def _spread(title: str, series: str, unit: str, about: str) -> object:
    return timeseries(
        title,
        Query(f"max({_ours(series)})", "highest"),
        Query(f"avg({_ours(series)})", "mean"),
        unit=unit,
        overrides=by_name("highest", "mean"),
        about=about,
        empty="No exporter of this selection was scraped in this period.",
    )


EXPORTER = Outline(
    uid="gpu-exporter",
    title="GPU exporter",
    question="Does the exporter see every node and GPU, which sources answer, and what does it"
    " cost?",
    since="now-6h",
    rows=(
        Row(
            "At a glance",
            (
                stat(
                    "Exporters",
                    Query("count(gpu_exporter_build_info)"),
                    about="Exporters that answer.",
                ),
                stat(
                    "Missing",
                    Query(
                        or_zero(
                            "count(count by (node) (last_over_time(gpu_exporter_build_info"
                            "[$__range])) unless on (node) gpu_exporter_build_info)"
                        )
                    ),
                    thresholds=above(critical=1),
                    alerts=("GPUExporterDown", "GPUExporterMissing", "GPUExporterAbsent"),
                    about="Nodes whose exporter answered in the time shown and does not answer"
                    " now.",
                ),
                stat(
                    "Sources down",
                    Query(or_zero("count(gpu_exporter_source_up == 0)")),
                    thresholds=above(warning=1),
                    alerts=("GPUExporterSourceDown",),
                    about="Sources that do not answer: the driver, its events, the kubelet, the"
                    " pod watch.",
                ),
                stat(
                    "Oldest sample",
                    Query(f"max({_AGE})"),
                    unit=units.SECONDS,
                    thresholds=above(thresholds.SAMPLE_AGE_SECONDS),
                    alerts=("GPUExporterSamplesStale",),
                    about="The age of the last successful read, on the GPU where that is oldest.",
                ),
                stat(
                    "Unresolved claims",
                    Query(or_zero("sum(gpu_unresolved_claims)")),
                    thresholds=above(warning=1),
                    alerts=("GPUExporterUnresolvedClaims",),
                    about="Claims of containers that match no device the exporter sees.",
                ),
                stat(
                    "Series",
                    Query(f"sum({_ours('scrape_samples_post_metric_relabeling')})"),
                    unit=units.SHORT,
                    about="Series of all exporters in Prometheus.",
                ),
            ),
        ),
        Row(
            "Sources",
            (
                state_timeline(
                    "Sources over time",
                    Query("min by (source, node) (gpu_exporter_source_up)", "{{source}} {{node}}"),
                    states=states({1: ("up", GOOD), 0: ("down", CRITICAL)}),
                    span=2,
                ),
                table(
                    "Sources that failed",
                    ("node", "source", "reason"),
                    Column(
                        "Failures",
                        "sum by (node, source, reason)"
                        " (round(increase(gpu_exporter_source_failures_total[$__range]))) > 0",
                        units.SHORT,
                    ),
                    height=10,
                    about="Failed attempts to read a source in the time shown, by reason.",
                ),
            ),
            (
                timeseries(
                    "Time to read a source",
                    Query("max by (source) (gpu_exporter_source_duration_seconds)", "{{source}}"),
                    thresholds=above(thresholds.TICK_SECONDS),
                    alerts=("GPUExporterSlow",),
                    about="How long the last read of a source took, on the slowest node.",
                ),
                timeseries(
                    "Age of the oldest sample",
                    Query(f"topk(5, max by (node) ({_AGE}))", "{{node}}"),
                    unit=units.SECONDS,
                    thresholds=above(thresholds.SAMPLE_AGE_SECONDS),
                    about="Time since a GPU of the node was last read. The five nodes with the"
                    " oldest are shown.",
                ),
                timeseries(
                    "Failed reads of GPUs",
                    Query(
                        "sum by (reason)"
                        " (round(increase(gpu_exporter_read_failures_total[$__rate_interval])))",
                        "{{reason}}",
                    ),
                    unit=units.SHORT,
                ),
            ),
        ),
        Row(
            "What is unknown",
            (
                bargauge(
                    "Unresolved claims by reason",
                    Query("sort_desc(sum by (reason) (gpu_unresolved_claims))", "{{reason}}"),
                ),
                table(
                    "GPUs whose reads fail",
                    ("node", "gpu", "reason"),
                    Column(
                        "Failures",
                        "sum by (node, gpu, reason)"
                        " (round(increase(gpu_exporter_read_failures_total[$__range]))) > 0",
                        units.SHORT,
                    ),
                    about="Reads and fields of a GPU that failed in the time shown, by reason.",
                ),
            ),
        ),
        Row(
            "What it costs",
            (
                _spread(
                    "CPU",
                    "rate(process_cpu_seconds_total[$__rate_interval])",
                    units.RATIO,
                    "Processor time of an exporter, as a share of one core.",
                ),
                _spread(
                    "Memory",
                    "process_resident_memory_bytes",
                    "bytes",
                    "Resident memory of an exporter.",
                ),
                _spread(
                    "Scrape",
                    "scrape_duration_seconds",
                    units.SECONDS,
                    "How long a scrape took, as Prometheus measured it.",
                ),
                _spread(
                    "Series per exporter",
                    "scrape_samples_scraped",
                    units.SHORT,
                    "Series in one scrape.",
                ),
            ),
        ),
        Row(
            "What runs where",
            (
                table(
                    "Versions",
                    ("node", "version", "backend"),
                    Column(
                        "GPUs",
                        "max by (node, version, backend) (gpu_exporter_build_info"
                        " * on (node) group_left () sum by (node) (gpu_exporter_gpus))",
                        units.SHORT,
                    ),
                    sort="Node",
                    rising=True,
                    rows=100,
                    about="The version of the exporter on each node, its backend, and how many"
                    " GPUs it knows of.",
                ),
                table(
                    "Drivers",
                    ("node", "model", "driver_version"),
                    Column(
                        "GPUs", "count by (node, model, driver_version) (gpu_info)", units.SHORT
                    ),
                    sort="Node",
                    rising=True,
                    rows=100,
                ),
            ),
        ),
    ),
)
