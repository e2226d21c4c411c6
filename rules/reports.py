"""Recording rules that no alert and no dashboard reads: sums, ratios and days, by level.

They are for reports and for dashboards of one's own. The group is off by default.
"""

from collections.abc import Mapping
from itertools import chain
from typing import Final

from rules.allocations import with_facts
from rules.levels import ALLOCATION, CONTAINER, WORKLOAD, Recording, named

_MEMORY: Final = (
    Recording(
        "allocation:gpu_memory_used:bytes_avg5m",
        ALLOCATION,
        "bytes",
        "Device memory in use by the container on this device, mean over 5 minutes.",
        with_facts("avg_over_time(gpu_container_memory_used_bytes[5m])"),
    ),
    Recording(
        "allocation:gpu_memory_limit:bytes",
        ALLOCATION,
        "bytes",
        "Device memory of the device, where the container holds it alone.",
        with_facts("last_over_time(gpu_container_memory_limit_bytes[5m])"),
    ),
)

_LEVELS: Final[Mapping[str, tuple[str, ...]]] = {
    "container": (*CONTAINER, "workload_kind", "workload"),
    "pod": (*CONTAINER[:3], "workload_kind", "workload"),
    "workload": WORKLOAD,
    "namespace": ("namespace",),
}


def _alive(level: str) -> str:
    """Drop what has ended from means over an hour, where a series is one thing's own."""
    if level in {"container", "pod"}:
        return f"\nand on (namespace, pod) allocation:gpu_allocation:last5m{named(level)}"
    return ""


def _ratios(level: str, labels: tuple[str, ...]) -> tuple[Recording, ...]:
    by, chosen = ", ".join(labels), named(level)
    busy, idle = f"allocation:gpu_busy:gpus{chosen}", f"allocation:gpu_idle:gpus{chosen}"
    used = f"allocation:gpu_memory_used:bytes_avg5m{chosen}"
    limit = f"allocation:gpu_memory_limit:bytes{chosen}"
    busy_help = f"Share of its GPU time in which the {level} kept its GPUs busy, mean over"
    memory_help = f"Share of the memory of GPUs that the {level} holds alone, mean over"
    return (
        Recording(
            f"{level}:gpu_busy:ratio_rate5m",
            labels,
            "ratio",
            f"{busy_help} 5 minutes.",
            f"sum by ({by}) ({busy})\n/\n(sum by ({by}) ({busy} + {idle}) > 0)",
        ),
        Recording(
            f"{level}:gpu_busy:ratio_rate1h",
            labels,
            "ratio",
            f"{busy_help} an hour.",
            f"sum by ({by}) (sum_over_time({busy}[1h]))\n/\n"
            f"(sum by ({by}) (sum_over_time({busy}[1h]) + sum_over_time({idle}[1h])) > 0)"
            + _alive(level),
        ),
        Recording(
            f"{level}:gpu_memory:ratio_avg5m",
            labels,
            "ratio",
            f"{memory_help} 5 minutes.",
            f"sum by ({by}) ({used} and {limit})\n/\nsum by ({by}) ({limit})",
        ),
        Recording(
            f"{level}:gpu_memory:ratio_avg1h",
            labels,
            "ratio",
            f"{memory_help} an hour.",
            f"sum by ({by}) (avg_over_time({used}[1h]) and {limit})\n/\nsum by ({by}) ({limit})",
        ),
    )


def _board_ratios(level: str) -> tuple[Recording, ...]:
    labels = () if level == "cluster" else (level,)
    by = f" by ({level})" if labels else ""
    return tuple(
        recording
        for window, words in (("5m", "5 minutes"), ("1h", "an hour"))
        for recording in (
            Recording(
                f"{level}:gpu_busy:ratio_rate{window}",
                labels,
                "ratio",
                f"Share of time in which the {level}'s boards were busy, held or not, mean over"
                f" {words}. Without boards cut into slices before Hopper.",
                f"avg{by} (rate(gpu_busy_seconds_total[{window}]))",
            ),
            Recording(
                f"{level}:gpu_memory:ratio_avg{window}",
                labels,
                "ratio",
                f"Share of the memory of the {level}'s boards in use, mean over {words}.",
                f"sum{by} (avg_over_time(gpu_memory_used_bytes[{window}]) and"
                f" gpu_memory_total_bytes)\n/\nsum{by} (gpu_memory_total_bytes)",
            ),
        )
    )


_RATIOS: Final = (
    *chain.from_iterable(_ratios(level, labels) for level, labels in _LEVELS.items()),
    *_board_ratios("node"),
    *_board_ratios("cluster"),
)


def _sums(
    metric: str, base: str, unit: str, text: str, levels: tuple[str, ...]
) -> tuple[Recording, ...]:
    """Sum an allocation's figure on the levels."""
    labels = {"workload": WORKLOAD, "namespace": ("namespace",), "node": ("node",), "cluster": ()}
    return tuple(
        Recording(
            f"{level}:{metric}:{unit}",
            labels[level],
            unit if unit != "per_hour" else "currency",
            text % level,
            (f"sum by ({', '.join(labels[level])})" if labels[level] else "sum")
            + f" ({base}{named(level)})",
        )
        for level in levels
    )


_HOLDERS: Final = ("workload", "namespace")

_CAPACITY: Final = (
    *_sums(
        "gpu_allocated",
        "allocation:gpu_allocated:gpus",
        "gpus",
        "GPUs held in the %s, mean over 5 minutes.",
        (*_HOLDERS, "node", "cluster"),
    ),
    *_sums(
        "gpu_busy",
        "allocation:gpu_busy:gpus",
        "gpus",
        "GPUs kept busy by containers of the %s, mean over 5 minutes.",
        (*_HOLDERS, "node", "cluster"),
    ),
    *_sums(
        "gpu_idle",
        "allocation:gpu_idle:gpus",
        "gpus",
        "GPUs held by containers of the %s and not kept busy, mean over 5 minutes.",
        (*_HOLDERS, "node", "cluster"),
    ),
    Recording(
        "cluster:gpu_known:gpus",
        (),
        "gpus",
        "Boards that the exporters know, in whatever state.",
        "sum(node:gpu_known:gpus)",
    ),
    Recording(
        "node:gpu_in_use:devices",
        ("node", "resource"),
        "devices",
        "Allocations whose device was not idle in the last 5 minutes.",
        "count by (node, resource) (\n"
        "  allocation:gpu_busy:gpus / allocation:gpu_fraction:ratio >= ${idleRatio}\n"
        ")\n"
        "or node:gpu_allocatable:devices * 0",
    ),
    *(
        Recording(
            f"cluster:gpu_{state}:devices",
            ("resource",),
            "devices",
            f"Sum of node:gpu_{state}:devices.",
            f"sum by (resource) (node:gpu_{state}:devices)",
        )
        for state in ("allocatable", "allocated", "unallocated", "in_use")
    ),
)

_ENERGY: Final = (
    *_sums(
        "gpu_power",
        "allocation:gpu_power:watts",
        "watts",
        "Power that containers of the %s drew, mean over 5 minutes.",
        _HOLDERS,
    ),
    Recording(
        "node:gpu_power:watts",
        ("node",),
        "watts",
        "Power that the node's boards drew, mean over 5 minutes.",
        "sum by (node) (rate(gpu_energy_joules_total[5m]))",
    ),
    Recording(
        "cluster:gpu_power:watts",
        (),
        "watts",
        "Power that all boards drew, mean over 5 minutes.",
        "sum(node:gpu_power:watts)",
    ),
)

_COST: Final = (
    *_sums(
        "gpu_cost",
        "allocation:gpu_cost:per_hour",
        "per_hour",
        "Cost of an hour of the GPUs held in the %s.",
        (*_HOLDERS, "node", "cluster"),
    ),
    *_sums(
        "gpu_idle_cost",
        "allocation:gpu_idle_cost:per_hour",
        "per_hour",
        "Cost of an hour of the GPUs held in the %s and not kept busy.",
        (*_HOLDERS, "node", "cluster"),
    ),
    Recording(
        "cluster:gpu_known_cost:per_hour",
        (),
        "currency",
        "Cost of an hour of every board with a price, held or not.",
        "sum(gpu:gpu_hourly_cost:price)",
    ),
)


def _days(level: str, labels: tuple[str, ...]) -> tuple[Recording, ...]:
    """Integrate over a day, a sample a minute: what was there for an hour counts an hour."""
    hours = tuple(
        Recording(
            f"{level}:gpu_{state}:hours1d",
            labels,
            "hours",
            f"GPU-hours {words} by the {level} within a day.",
            f"sum_over_time({level}:gpu_{state}:gpus[1d:1m]) / 60",
        )
        for state, words in (
            ("allocated", "held"),
            ("busy", "kept busy"),
            ("idle", "held and not kept busy"),
        )
    )
    costs = tuple(
        Recording(
            f"{level}:gpu_{prefix}cost:sum1d",
            labels,
            "currency",
            f"Cost of GPU-hours {words} by the {level} within a day.",
            f"sum_over_time({level}:gpu_{prefix}cost:per_hour[1d:1m]) / 60",
        )
        for prefix, words in (("", "held"), ("idle_", "held and not kept busy"))
    )
    energy = Recording(
        f"{level}:gpu_energy:joules1d",
        labels,
        "joules",
        f"Energy used by the {level}'s GPUs within a day.",
        f"sum_over_time({level}:gpu_power:watts[1d:1m]) * 60",
    )
    return (*hours, *costs, energy)


DAYS: Final = (
    *_days("workload", WORKLOAD),
    *_days("namespace", ("namespace",)),
    *_days("node", ("node",)),
    *_days("cluster", ()),
)

REPORTS: Final = (*_MEMORY, *_RATIOS, *_CAPACITY, *_ENERGY, *_COST)
