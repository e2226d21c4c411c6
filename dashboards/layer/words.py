"""What labels and their values are called in tables."""

from collections.abc import Mapping

from dashboards.layer.colours import ABSENT, CRITICAL, GOOD, NEUTRAL, WARNING
from exporter.metrics.node import STATES
from exporter.model.readings import RECOVERY_ACTIONS

COLUMNS: Mapping[str, str] = {
    "node": "Node",
    "gpu": "GPU",
    "namespace": "Namespace",
    "workload": "Workload",
    "pod": "Pod",
    "container": "Container",
    "alertname": "Alert",
    "severity": "Severity",
    "xid": "XID",
    "action": "What to do",
    "profile": "Profile",
    "resource": "Resource",
    "reason": "Reason",
    "source": "Source",
    "model": "Model",
    "driver_version": "Driver",
    "version": "Version",
    "backend": "Backend",
    "sharing": "Sharing",
    "gpu_instance": "Instance",
    "cotenant_namespace": "Other namespace",
    "cotenant_pod": "Other pod",
}
"""What a label's column is called."""

WIDTHS: Mapping[str, int] = {
    "gpu": 60,
    "severity": 90,
    "xid": 60,
    "gpu_instance": 90,
    "profile": 100,
    "sharing": 110,
    "version": 90,
}
"""Pixels of the columns of labels that are short; names share what is left."""

LEAST_WIDTHS: Mapping[str, int] = {
    "alertname": 230,
    "pod": 150,
    "reason": 160,
    "resource": 190,
    "workload": 130,
}
"""Pixels that the columns of long names need at least."""

GPU_STATES: Mapping[int, tuple[str, str]] = {
    number: (state, {"ok": GOOD, "failed": WARNING}.get(state, CRITICAL))
    for number, state in enumerate(STATES)
}
"""The values of ``gpu_exporter_gpu_state``."""

RECOVERY: Mapping[int, tuple[str, str]] = {
    number: (action.replace("_", " "), ABSENT if action == "none" else CRITICAL)
    for number, action in enumerate(RECOVERY_ACTIONS)
}
"""The values of ``gpu_recovery_action``."""

VALUES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "severity": {
        "critical": ("critical", CRITICAL),
        "warning": ("warning", WARNING),
        "info": ("info", NEUTRAL),
    },
    "action": {
        # Of XIDs, in NVIDIA's catalogue.
        "restart_app": ("restart the application", NEUTRAL),
        "ignore": ("nothing", ABSENT),
        "reset_gpu": ("reset the GPU", CRITICAL),
        "restart_node": ("restart the node", CRITICAL),
        "check_ecc": ("check ECC errors", WARNING),
        "check_nvlink": ("check NVLink", WARNING),
        "follow_up": ("see the other XIDs", NEUTRAL),
        "check_hardware": ("check the hardware", WARNING),
        "update_driver": ("update the driver", WARNING),
        "check_uvm": ("check unified memory", WARNING),
        "contact_support": ("contact NVIDIA", WARNING),
        "recovery_action": ("see the recovery action", WARNING),
        "unknown": ("not in the catalogue", WARNING),
        # What the driver asks for.
        "reset": ("reset the GPU", CRITICAL),
        "reboot_node": ("reboot the node", CRITICAL),
        "drain_p2p": ("drain peer-to-peer work", CRITICAL),
        "drain_and_reset": ("drain, then reset the GPU", CRITICAL),
        "recover_imex_domain": ("recover the IMEX domain", CRITICAL),
        "bus_reset": ("reset the bus", CRITICAL),
        "system_reboot": ("reboot the system", CRITICAL),
    },
}
"""What a label's values are shown as, and in which colour."""
