"""Recording rules of what nodes have, and of what GPUs cost."""

from typing import Final

from rules.levels import ALLOCATION, Recording

CAPACITY: Final = (
    Recording(
        "node:gpu_known:gpus",
        ("node",),
        "gpus",
        "Boards that the exporter knows on the node, in whatever state.",
        "count by (node) (max by (node, uuid) (gpu_exporter_gpu_state))",
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
)

PRICE: Final = Recording(
    "model:gpu_hourly_cost:price",
    ("model",),
    "currency",
    "Price of a GPU for an hour, by model: the settings' price table, one rule for each model.",
    "vector(0)",
)
