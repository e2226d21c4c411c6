"""Recording rules of what containers and boards use: time, memory, clocks."""

from collections.abc import Mapping
from itertools import chain
from typing import Final

from rules.levels import ALLOCATION, CONTAINER, HELD, NAMED, WORKLOAD, Recording, named

_KEY: Final = "node, namespace, pod, container, uuid"


def _held(rate: str) -> str:
    """Join what is told of a container on a device with what the device is and whose it is."""
    return (
        f"sum by ({_KEY}) ({rate})\n"
        f"* on ({_KEY}) group_left ({', '.join(HELD)})\n"
        "allocation:gpu_fraction:ratio"
    )


def _known(value: str) -> str:
    """Join as :func:`_held` does, but leave a slice's value as it is."""
    return (
        f"max by ({_KEY}) ({value})\n"
        f"* on ({_KEY}) group_left ({', '.join(HELD)})\n"
        "allocation:gpu_allocation:last5m"
    )


ALLOCATIONS: Final = (
    Recording(
        "allocation:gpu_allocation:last5m",
        ALLOCATION,
        "",
        "A container holds a device, or did within 5 minutes: one series each, whatever became of"
        " its labels; the value is 1.",
        # A pod's workload may become known after its claim, and then both series are in reach.
        f"max by ({', '.join(ALLOCATION)}) (\n"
        f"  topk by ({_KEY}) (1, last_over_time(gpu_allocation_info{NAMED}[5m]))\n"
        f"  or on ({_KEY})\n"
        f"  topk by ({_KEY}) (1, last_over_time(gpu_allocation_info[5m]))\n"
        ")",
    ),
    Recording(
        "slice:gpu_fraction:ratio",
        ("node", "uuid"),
        "ratio",
        "A MIG slice's part of its board, by memory; compute instances in one GPU instance have"
        " equal parts of that one's.",
        "max by (node, uuid) (\n"
        "  gpu_mig_info\n"
        "  * on (node, gpu_uuid, gpu_instance) group_left ()\n"
        "  (\n"
        "    max by (node, gpu_uuid, gpu_instance) (gpu_mig_memory_total_bytes)\n"
        "    / on (node, gpu_uuid, gpu_instance)\n"
        "    count by (node, gpu_uuid, gpu_instance) (gpu_mig_info)\n"
        "  )\n"
        "  / on (node, gpu_uuid) group_left ()\n"
        "  max by (node, gpu_uuid) (\n"
        '    label_replace(gpu_memory_total_bytes, "gpu_uuid", "$1", "uuid", "(.+)")\n'
        "  )\n"
        ")",
    ),
    Recording(
        "allocation:gpu_fraction:ratio",
        ALLOCATION,
        "ratio",
        "The part of a board that the held device is: 1 for a whole GPU, shared or not.",
        'allocation:gpu_allocation:last5m{profile=""}\n'
        "or\n"
        'allocation:gpu_allocation:last5m{profile!=""}\n'
        "* on (node, uuid) group_left ()\n"
        "max by (node, uuid) (last_over_time(slice:gpu_fraction:ratio[5m]))",
    ),
    Recording(
        "allocation:gpu_allocated:gpus",
        ALLOCATION,
        "gpus",
        "GPUs that the container holds through this device, mean over 5 minutes.",
        _held("rate(gpu_container_allocated_seconds_total[5m])"),
    ),
    Recording(
        "allocation:gpu_busy:gpus",
        ALLOCATION,
        "gpus",
        "GPUs that the container kept busy through this device, mean over 5 minutes. Absent where"
        " nobody can tell: slices before Hopper, shared GPUs without the host's processes.",
        _held("rate(gpu_container_busy_seconds_total[5m])"),
    ),
    Recording(
        "allocation:gpu_idle:gpus",
        ALLOCATION,
        "gpus",
        "GPUs held and not kept busy, mean over 5 minutes. Not below 0 where a container has more"
        " of a shared GPU than its share. Absent where busy is.",
        "clamp_min(allocation:gpu_allocated:gpus - allocation:gpu_busy:gpus, 0)",
    ),
    Recording(
        "allocation:gpu_memory_used:bytes_avg5m",
        ALLOCATION,
        "bytes",
        "Device memory in use by the container on this device, mean over 5 minutes.",
        _known("avg_over_time(gpu_container_memory_used_bytes[5m])"),
    ),
    Recording(
        "allocation:gpu_memory_limit:bytes",
        ALLOCATION,
        "bytes",
        "Device memory of the device, where the container holds it alone.",
        _known("last_over_time(gpu_container_memory_limit_bytes[5m])"),
    ),
    Recording(
        "allocation:gpu_power:watts",
        ALLOCATION,
        "watts",
        "Power that the container drew through this device, mean over 5 minutes.",
        _known("rate(gpu_container_energy_joules_total[5m])"),
    ),
)

_OF_CONTAINERS: Final[Mapping[str, tuple[str, ...]]] = {
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


RATIOS: Final = (
    *chain.from_iterable(_ratios(level, labels) for level, labels in _OF_CONTAINERS.items()),
    *_board_ratios("node"),
    *_board_ratios("cluster"),
)

_SPREAD: Final = "quantile by (namespace, workload_kind, workload) (0.5, %s)"

PEERS: Final = (
    Recording(
        "allocation:gpu_sm_clock:hertz_avg15m",
        ALLOCATION,
        "hertz",
        "SM clock of a whole GPU that a container of a workload holds alone, mean over 15 minutes.",
        'allocation:gpu_allocation:last5m{profile="", sharing!~"time_sliced|mps", workload!=""}\n'
        "* on (node, uuid) group_left ()\n"
        'max by (node, uuid) (avg_over_time(gpu_clock_hertz{domain="sm"}[15m]))',
    ),
    Recording(
        "workload:gpu_sm_clock:hertz_median15m",
        WORKLOAD,
        "hertz",
        "Median of the SM clocks of the workload's GPUs.",
        _SPREAD % "allocation:gpu_sm_clock:hertz_avg15m",
    ),
    Recording(
        "workload:gpu_sm_clock:hertz_mad15m",
        WORKLOAD,
        "hertz",
        "Median absolute deviation of the SM clocks of the workload's GPUs from their median.",
        _SPREAD % "\n  abs(\n    allocation:gpu_sm_clock:hertz_avg15m\n"
        "    - on (namespace, workload_kind, workload) group_left ()\n"
        "    workload:gpu_sm_clock:hertz_median15m\n  )\n",
    ),
)
