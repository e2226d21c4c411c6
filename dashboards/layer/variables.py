"""What a reader can choose, the same on every dashboard, so that links can hand it on."""

import re
from collections.abc import Iterable
from typing import Any

from grafanalib import core

from dashboards.layer.queries import CHOSEN, DATASOURCE

EVERYTHING = ".*"
_LABEL_VALUES = 1
"""Of the kinds of variable query that Grafana's Prometheus data source has."""

_VALUES = {
    "node": "gpu_exporter_build_info",
    "namespace": 'gpu_allocation_info{node=~"$node"}',
    "workload": 'gpu_allocation_info{node=~"$node", namespace=~"$namespace", workload!=""}',
    "pod": ('gpu_allocation_info{node=~"$node", namespace=~"$namespace", workload=~"$workload"}'),
    "gpu": 'gpu_exporter_last_sample_timestamp_seconds{node=~"$node"}',
}
"""The series that a label's values are taken from: few, and there whatever else fails."""

_ABOUT = {
    "node": "Nodes that an exporter runs on.",
    "namespace": "Namespaces of pods with GPUs.",
    "workload": "Deployments, jobs and other owners of pods. Needs the pod watch.",
    "pod": "Pods with GPUs, of the selected workloads.",
    "gpu": "Index of the GPU on its node.",
}


def variables(queries: Iterable[str]) -> list[Any]:
    """Return the variables of a dashboard with these queries. What none of them uses is hidden.

    ``pod`` stands for the pods of the chosen workloads even when all are chosen: containers'
    series do not name their workload. The others then let everything through, also what lacks
    the label.
    """
    used = set(re.findall(r"\$(\w+)", " ".join(queries)))
    if "pod" in used:
        used |= {"workload", "namespace"}
    return [_datasource(), *(_choice(name, shown=name in used) for name in CHOSEN)]


def _datasource() -> Any:
    return core.Template(
        name="datasource", label="Data source", type="datasource", query="prometheus"
    )


def _choice(name: str, *, shown: bool) -> Any:
    return core.Template(
        name=name,
        label={"gpu": "GPU"}.get(name, name.capitalize()),
        dataSource=DATASOURCE,
        query={
            "qryType": _LABEL_VALUES,
            "query": f"label_values({_VALUES[name]}, {name})",
            "refId": "PrometheusVariableQueryEditor-VariableQuery",
        },
        refresh=core.REFRESH_ON_TIME_RANGE_CHANGE,
        sort=core.SORT_NUMERIC_ASC if name == "gpu" else core.SORT_ALPHA_ASC,
        includeAll=True,
        multi=True,
        allValue=None if name == "pod" else EVERYTHING,
        default="$__all",
        hide=core.SHOW if shown else core.HIDE_VARIABLE,
    )


def about(name: str) -> str:
    """Return what a variable's values are."""
    return _ABOUT.get(name, "The Prometheus that scrapes the exporters and evaluates the rules.")
