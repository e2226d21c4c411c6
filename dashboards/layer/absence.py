"""Why a panel may be empty, by what it shows. A reader must not have to guess."""

_ALLOCATED = (
    "No GPU was allocated to a container of this selection, or the kubelet does not answer (see the"
    " exporter dashboard)."
)
_HOPPER = "None of these GPUs reports this: that needs Hopper or newer, and a GPU without MIG."
_REASONS = {
    "gpu_": "No GPU of this selection could be read in this period (see the exporter dashboard).",
    "gpu_engine_": "None of these GPUs reports the use of its media engines.",
    "gpu_sm_": _HOPPER,
    "gpu_dram_": _HOPPER,
    "gpu_pipe_": _HOPPER,
    "gpu_pcie_receive_": _HOPPER,
    "gpu_pcie_transmit_": _HOPPER,
    "gpu_nvlink_": "None of these GPUs has NVLink in use.",
    "gpu_fan_": "None of these GPUs has a fan of its own.",
    "gpu_ecc_": "None of these GPUs counts ECC errors.",
    "gpu_remapped_": "None of these GPUs remaps rows: Ampere and newer data-center boards do.",
    "gpu_row_": "None of these GPUs remaps rows: Ampere and newer data-center boards do.",
    "gpu_retired_": "None of these GPUs retires pages: boards before Ampere do.",
    "gpu_xid_": "No XID was reported in this period. That is good.",
    "gpu_recovery_": "None of these drivers reports which recovery a GPU needs.",
    "gpu_mig_": "There is no MIG slice in this selection.",
    "gpu_mig_sm_": "No MIG slice reports this: that needs Hopper or newer.",
    "gpu_mig_dram_": "No MIG slice reports this: that needs Hopper or newer.",
    "gpu_mig_pipe_": "No MIG slice reports this: that needs Hopper or newer.",
    "gpu_mig_utilization_": "No MIG slice reports this: that needs Hopper or newer.",
    "gpu_mig_busy_": "No MIG slice reports this: that needs Hopper or newer.",
    "gpu_allocation_": _ALLOCATED,
    "gpu_container_": _ALLOCATED,
    "gpu_container_oom_": "No container ran out of GPU memory, or the pod watch is off.",
    "gpu_container_host_": "The kernel killed no GPU container, or the pod watch is off.",
    "gpu_unattributed_": "All use of these GPUs is attributed to containers.",
    "gpu_allocatable_": "The kubelet advertises no GPUs, or does not answer.",
    "gpu_allocated_": "The kubelet advertises no GPUs, or does not answer.",
    "gpu_unresolved_": "Every claim was found on a device. That is good.",
    "gpu_exporter_": "No exporter of this selection was scraped in this period.",
    "gpu_exporter_read_failures_": "No read failed. That is good.",
    "gpu_exporter_source_failures_": "No source failed. That is good.",
    "ALERTS": "No alert is firing. If none ever does, check that the alert rules are loaded.",
}


_RECORDED = (
    "No GPU was allocated to a container of this selection, or the recording rules are not loaded."
)
_PRICED = "No GPU of this selection has a price: see the settings of the recording rules."


def why_empty(name: str) -> str:
    """Return why there may be nothing to see of a family: the reason of the longest prefix."""
    if ":" in name:
        return _PRICED if "cost" in name else _RECORDED
    prefixes = [prefix for prefix in _REASONS if name.startswith(prefix)]
    return _REASONS[max(prefixes, key=len)] if prefixes else _ALLOCATED
