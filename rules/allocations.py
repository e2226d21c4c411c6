"""Recording rules of what containers use of their GPUs: time, energy, clocks."""

from typing import Final

from rules.levels import (
    ALLOCATION,
    ALLOCATION_FACTS,
    ALLOCATION_KEY,
    NAMED,
    WORKLOAD,
    Recording,
)

_KEY: Final = ", ".join(ALLOCATION_KEY)
_FACTS: Final = ", ".join(ALLOCATION_FACTS)


def in_gpus(rate: str) -> str:
    """Weigh a rate of an allocation by the fraction of a board that the device is."""
    return (
        f"sum by ({_KEY}) ({rate})\n"
        f"* on ({_KEY}) group_left ({_FACTS})\n"
        "allocation:gpu_fraction:ratio"
    )


def with_facts(value: str) -> str:
    """Add to a value of an allocation the labels that say more about the allocation."""
    return (
        f"max by ({_KEY}) ({value})\n"
        f"* on ({_KEY}) group_left ({_FACTS})\n"
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
        in_gpus("rate(gpu_container_allocated_seconds_total[5m])"),
    ),
    Recording(
        "allocation:gpu_busy:gpus",
        ALLOCATION,
        "gpus",
        "GPUs that the container kept busy through this device, mean over 5 minutes. Absent where"
        " nobody can tell: slices before Hopper, shared GPUs without the host's processes.",
        in_gpus("rate(gpu_container_busy_seconds_total[5m])"),
    ),
    Recording(
        "allocation:gpu_idle:gpus",
        ALLOCATION,
        "gpus",
        "GPUs held and not kept busy, mean over 5 minutes. Not below 0 where a container has more"
        " of a shared GPU than its share. Absent where busy is.",
        "clamp_min(allocation:gpu_allocated:gpus - allocation:gpu_busy:gpus, 0)",
    ),
    # By the busy counter over a long window, because gpu_container_idle_seconds starts again with
    # each pulse of work and with each start of the exporter. A container that was not there before
    # the window has not been seen long enough to call it idle.
    Recording(
        "allocation:gpu_recent_use:ratio",
        ALLOCATION,
        "ratio",
        "Share of the allocated time in which the device was busy, over the setting idleWindow.",
        with_facts(
            f"sum by ({_KEY}) (rate(gpu_container_busy_seconds_total[${{idleWindow}}]))\n"
            f"/ on ({_KEY})\n"
            f"sum by ({_KEY}) (rate(gpu_container_allocated_seconds_total[${{idleWindow}}]))\n"
            f"and on ({_KEY})\n"
            "last_over_time(gpu_container_busy_seconds_total[15m] offset ${idleWindow})\n"
            f"and on ({_KEY}) gpu_container_idle_seconds"
        ),
    ),
    Recording(
        "allocation:gpu_idle:bool",
        ALLOCATION,
        "",
        "Whether the container leaves its device idle (1) or not (0): busy for less than the"
        " setting idleRatio, over the setting idleWindow.",
        "allocation:gpu_recent_use:ratio < bool ${idleRatio}",
    ),
    Recording(
        "allocation:gpu_power:watts",
        ALLOCATION,
        "watts",
        "Power that the container drew through this device, mean over 5 minutes.",
        with_facts("rate(gpu_container_energy_joules_total[5m])"),
    ),
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
