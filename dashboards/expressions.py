"""PromQL that several dashboards share."""

CONTAINER = "node, namespace, pod, container, uuid"
"""The labels that identify an allocation."""

ALLOCATED = "allocation:gpu_allocated:gpus"
BUSY = "allocation:gpu_busy:gpus"
IDLE = "allocation:gpu_idle:gpus"
IS_IDLE = "allocation:gpu_idle:bool"
COST = "allocation:gpu_cost:per_hour"
IDLE_COST = "allocation:gpu_idle_cost:per_hour"
POWER = "allocation:gpu_power:watts"
"""Recorded for each allocation, with every label that a reader can choose by. A slice counts by its
share of the board's memory. ``IS_IDLE`` is what the idle alert goes by."""

FREE = "clamp_min(gpu_allocatable_devices - gpu_allocated_devices, 0)"
"""Devices of a resource that are not allocated. While MIG is reconfigured, the kubelet may report
more allocated devices than there are."""

POINTS = 2000
"""Steps that sums over the time shown are made of: recordings are means over five minutes, and a
week has 2016 of those."""


def or_zero(expr: str) -> str:
    """Let a count be 0 where it finds nothing, but only while an exporter answers."""
    return f"({expr}) or 0 * sum(gpu_exporter_gpus)"


def highest(expr: str, ranking: str, most: int = 16, by: str = "node, gpu") -> str:
    """Keep the series that ranked highest over the whole time shown, the same ones at each step.

    ``ranking`` has to look back ``[$__range] @ end()``.
    """
    return f"({expr}) and on ({by}) topk({most}, {ranking})"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"


def hours(recorded: str, by: str = "") -> str:
    """Return the integral of a recording over the time shown, in hours times its unit."""
    steps = f"sum_over_time({recorded}[$__range:$__interval])"
    return f"{_sum(by)} ({steps}) * $__interval_ms / 3600000"


def busy_share(by: str = "") -> str:
    """Return the busy share of the allocated GPU-hours whose use can be attributed."""
    busy, idle = (f"sum_over_time({name}[$__range:$__interval])" for name in (BUSY, IDLE))
    return f"{_sum(by)} ({busy}) / ({_sum(by)} ({busy} + {idle}) > 0)"
