"""Families of whole GPUs: their links and their health as hardware."""

from collections.abc import Iterator
from typing import Final

from exporter.metrics.family import Family, Point
from exporter.metrics.gpu import GPU_LABELS, gpu_labels, per_gpu, per_gpu_by, readable
from exporter.metrics.node import numbered
from exporter.model.readings import RECOVERY_ACTIONS
from exporter.model.snapshot import Snapshot
from exporter.model.xids import action


def _ecc_errors(snapshot: Snapshot) -> Iterator[Point]:
    for sample, data in readable(snapshot):
        for (severity, location), count in data.totals.ecc_errors.items():
            yield (*gpu_labels(sample.gpu), severity, location), count


def _recovery_action(snapshot: Snapshot) -> Iterator[Point]:
    for sample, data in readable(snapshot):
        if data.slow.recovery_action is not None:
            yield gpu_labels(sample.gpu), RECOVERY_ACTIONS.index(data.slow.recovery_action)


def _xid_errors(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.gpus:
        for xid, total in sample.xids.items():
            yield (*gpu_labels(sample.gpu), str(xid), action(xid)), total.count


def _xid_last(snapshot: Snapshot) -> Iterator[Point]:
    for sample in snapshot.gpus:
        for xid, total in sample.xids.items():
            yield (*gpu_labels(sample.gpu), str(xid), action(xid)), total.last_timestamp


LINKS: Final = (
    per_gpu(
        "gpu_pcie_receive_bytes_total",
        "Bytes received over PCIe since the exporter started, by mean rates over intervals.",
        lambda d: d.totals.pcie_receive_bytes,
    ),
    per_gpu(
        "gpu_pcie_transmit_bytes_total",
        "Bytes sent over PCIe since the exporter started, by mean rates over intervals.",
        lambda d: d.totals.pcie_transmit_bytes,
    ),
    per_gpu(
        "gpu_pcie_replays_total",
        "PCIe packets that had to be sent again.",
        lambda d: d.totals.pcie_replays,
    ),
    per_gpu(
        "gpu_pcie_link_generation",
        "PCIe generation that the link runs at now. It is lower while the GPU is idle.",
        lambda d: d.slow.pcie_link_generation,
    ),
    per_gpu(
        "gpu_pcie_link_width",
        "PCIe lanes that the link uses now.",
        lambda d: d.slow.pcie_link_width,
    ),
    per_gpu(
        "gpu_pcie_link_generation_max",
        "Highest PCIe generation that both the board and the slot support.",
        lambda d: d.full.gpu.pcie_link_generation_max,
    ),
    per_gpu(
        "gpu_pcie_link_width_max",
        "Most PCIe lanes that both the board and the slot support.",
        lambda d: d.full.gpu.pcie_link_width_max,
    ),
    per_gpu(
        "gpu_nvlink_receive_bytes_total",
        "Payload bytes received over all NVLink links.",
        lambda d: d.totals.nvlink_receive_bytes,
    ),
    per_gpu(
        "gpu_nvlink_transmit_bytes_total",
        "Payload bytes sent over all NVLink links.",
        lambda d: d.totals.nvlink_transmit_bytes,
    ),
    per_gpu(
        "gpu_nvlink_active_links",
        "NVLink links that are up.",
        lambda d: d.slow.nvlink_active_links,
    ),
    per_gpu_by(
        "kind",
        "gpu_nvlink_errors_total",
        "NVLink errors over all links, by kind.",
        lambda d: d.totals.nvlink_errors,
    ),
)

HEALTH: Final = (
    Family(
        "gpu_ecc_errors_total",
        "ECC errors over the board's life, by severity (corrected, uncorrected) and location.",
        (*GPU_LABELS, "severity", "location"),
        _ecc_errors,
    ),
    per_gpu_by(
        "cause",
        "gpu_remapped_rows",
        "Memory rows that were replaced by spare rows, by the kind of error that caused it.",
        lambda d: d.slow.remapped_rows,
    ),
    per_gpu(
        "gpu_row_remap_pending",
        "Whether a row waits for a GPU reset to be remapped (1) or not (0).",
        lambda d: d.slow.row_remap_pending,
    ),
    per_gpu(
        "gpu_row_remap_failed",
        "Whether remapping a row has ever failed (1) or not (0).",
        lambda d: d.slow.row_remap_failed,
    ),
    per_gpu_by(
        "availability",
        "gpu_row_remap_banks",
        "Memory banks by how many spare rows they have left: max, high, partial, low, none.",
        lambda d: d.slow.row_remap_banks,
    ),
    per_gpu_by(
        "cause",
        "gpu_retired_pages",
        "Memory pages that were taken out of use, by the kind of error (before Ampere).",
        lambda d: d.slow.retired_pages,
    ),
    per_gpu(
        "gpu_retired_pages_pending",
        "Whether a page waits for a reboot to be retired (1) or not (0).",
        lambda d: d.slow.retired_pages_pending,
    ),
    Family(
        "gpu_recovery_action",
        "What the driver asks for to recover the GPU, as NVML's number:"
        f" {numbered(RECOVERY_ACTIONS)}.",
        GPU_LABELS,
        _recovery_action,
    ),
    Family(
        "gpu_xid_errors_total",
        "XIDs that the driver has reported since the exporter started, by code and by the action"
        " that NVIDIA recommends. Also exported while the GPU can't be read.",
        (*GPU_LABELS, "xid", "action"),
        _xid_errors,
    ),
    Family(
        "gpu_xid_last_timestamp_seconds",
        "When the XID was last reported, in Unix time.",
        (*GPU_LABELS, "xid", "action"),
        _xid_last,
    ),
)
