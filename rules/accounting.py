"""Recording rules of capacity, energy and cost, and of whole days."""

from typing import Final

from rules.levels import ALLOCATION, WORKLOAD, Recording, named


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

CAPACITY: Final = (
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
        "node:gpu_known:gpus",
        ("node",),
        "gpus",
        "Boards that the exporter knows on the node, in whatever state.",
        "count by (node) (max by (node, uuid) (gpu_exporter_gpu_state))",
    ),
    Recording(
        "cluster:gpu_known:gpus",
        (),
        "gpus",
        "Boards that the exporters know, in whatever state.",
        "sum(node:gpu_known:gpus)",
    ),
    Recording(
        "node:gpu_allocatable:devices",
        ("node", "resource"),
        "devices",
        "Devices that the kubelet can give to pods; a shared one counts once per share.",
        "max by (node, resource) (gpu_allocatable_devices)",
    ),
    Recording(
        "node:gpu_allocated:devices",
        ("node", "resource"),
        "devices",
        "Devices that containers hold.",
        "max by (node, resource) (gpu_allocated_devices)",
    ),
    Recording(
        "node:gpu_unallocated:devices",
        ("node", "resource"),
        "devices",
        "Devices that no container holds.",
        "clamp_min(node:gpu_allocatable:devices - node:gpu_allocated:devices, 0)",
    ),
    Recording(
        "node:gpu_in_use:devices",
        ("node", "resource"),
        "devices",
        "Containers' holds on devices that were busy for 1 % of the last 5 minutes or more.",
        "count by (node, resource) (\n"
        "  allocation:gpu_busy:gpus / allocation:gpu_fraction:ratio >= 0.01\n"
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

ENERGY: Final = (
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

COST: Final = (
    Recording(
        "gpu:gpu_hourly_cost:price",
        ("node", "uuid", "gpu", "model"),
        "currency",
        "Price of the whole board for an hour: OpenCost's for the node, else the table's for the"
        " model. Absent for a model that is in neither.",
        "max by (node, uuid, gpu, model) (\n"
        "  last_over_time(gpu_info[5m])\n"
        "  * on (node) group_left () max by (node) (node_gpu_hourly_cost > 0)\n"
        "  or on (node, uuid)\n"
        "  last_over_time(gpu_info[5m])\n"
        "  * on (model) group_left () max by (model) (model:gpu_hourly_cost:price)\n"
        ")",
    ),
    *(
        Recording(
            f"allocation:gpu_{prefix}cost:per_hour",
            ALLOCATION,
            "currency",
            f"Cost of an hour of what the container {words} of this device.",
            f"allocation:gpu_{state}:gpus\n"
            "* on (node, gpu_uuid) group_left ()\n"
            "max by (node, gpu_uuid) (\n"
            '  label_replace(gpu:gpu_hourly_cost:price, "gpu_uuid", "$1", "uuid", "(.+)")\n'
            ")",
        )
        for prefix, state, words in (("", "allocated", "holds"), ("idle_", "idle", "leaves idle"))
    ),
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

PRICE: Final = Recording(
    "model:gpu_hourly_cost:price",
    ("model",),
    "currency",
    "Price of a GPU for an hour, by model: the settings' price table, one rule for each model.",
    "vector(%s)",
)
