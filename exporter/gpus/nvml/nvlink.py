"""NVLink: bytes, links and errors, of all links together.

Older links tell their errors as totals, newer ones (NVLink 4 and 5) link by link. A kind is asked
for link by link only where its total is not supported: one that failed this time must not be made
up for by a sum that counts something else.

Links that never told a kind have no part in its sum. From one that did, "not supported" is a
failure, as :class:`Asker` has it, and then there is no sum: without that link it would drop, and
look like counters that started anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import pynvml

from exporter.gpus.nvml.asking import ALL_LINKS, Asker
from exporter.gpus.nvml.bounds import counted, flag
from exporter.gpus.nvml.identity import Handle
from exporter.gpus.nvml.library import nvml

_LINK_COUNT = ("nvlink_active_links", "count")

_BYTES = {
    "nvlink_receive_bytes": pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
    "nvlink_transmit_bytes": pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
}
"""Field values in KiB, of data without the protocol's overhead."""

_TOTALS = {
    "replay": pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
    "recovery": pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
    "crc_flit": pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
    "crc_data": pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
    "ecc_data": pynvml.NVML_FI_DEV_NVLINK_ECC_DATA_ERROR_COUNT_TOTAL,
}
"""Field values that already are sums over the links."""

_PER_LINK = {
    "replay": pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY,
    "recovery": pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY,
    "crc": pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC,
    "malformed_packet": pynvml.NVML_FI_DEV_NVLINK_COUNT_MALFORMED_PACKET_ERRORS,
    "buffer_overrun": pynvml.NVML_FI_DEV_NVLINK_COUNT_BUFFER_OVERRUN_ERRORS,
    "receive": pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_ERRORS,
    "receive_remote": pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_REMOTE_ERRORS,
    "receive_general": pynvml.NVML_FI_DEV_NVLINK_COUNT_RCV_GENERAL_ERRORS,
    "local_link_integrity": pynvml.NVML_FI_DEV_NVLINK_COUNT_LOCAL_LINK_INTEGRITY_ERRORS,
    "transmit_discard": pynvml.NVML_FI_DEV_NVLINK_COUNT_XMIT_DISCARDS,
    "link_recovery_failed": pynvml.NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS,
}
"""Field values of one link each."""


@dataclass(frozen=True, slots=True)
class NvLink:
    """NVLink's part of a slow reading, raw; empty on a board without it."""

    receive_kibibytes: float | None = None
    transmit_kibibytes: float | None = None
    active_links: int | None = None
    errors: Mapping[str, int] = field(default_factory=dict)


def read_nvlink(handle: Handle, asker: Asker) -> NvLink:
    """Raise :class:`~exporter.gpus.GpuError` when the GPU is gone."""
    values = asker.ask_values(
        handle,
        [
            (*_LINK_COUNT, pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT, 0),
            *((name, None, field_id, ALL_LINKS) for name, field_id in _BYTES.items()),
            *(("nvlink_errors", kind, field_id, 0) for kind, field_id in _TOTALS.items()),
        ],
    )
    raw_count = values.get(_LINK_COUNT, 0)
    links = asker.ask(_LINK_COUNT[0], lambda: counted("number of NVLinks", raw_count), "counted")
    if not links:
        return NvLink()
    totals = {
        kind: int(values["nvlink_errors", kind])
        for kind in _TOTALS
        if ("nvlink_errors", kind) in values
    }
    return NvLink(
        receive_kibibytes=values.get(("nvlink_receive_bytes", None)),
        transmit_kibibytes=values.get(("nvlink_transmit_bytes", None)),
        active_links=_active_links(handle, links, asker),
        errors=_errors_by_link(handle, links, asker) | totals,
    )


def _active_links(handle: Handle, links: int, asker: Asker) -> int | None:
    """Count the links that are up; ``None`` when one does not tell, for the count would lie."""
    asked = {
        link: asker.ask("nvlink_active_links", partial(_is_active, handle, link), link)
        for link in range(links)
        if asker.supported("nvlink_active_links", link)
    }
    states = {
        link: state for link, state in asked.items() if asker.supported("nvlink_active_links", link)
    }
    if not states or None in states.values():
        return None
    return list(states.values()).count(True)


def _is_active(handle: Handle, link: int) -> bool:
    return flag("NVLink state", nvml.nvmlDeviceGetNvLinkState(handle, link))


def _errors_by_link(handle: Handle, links: int, asker: Asker) -> dict[str, int]:
    """Sum over the links that tell a kind. A kind that failed on one of them has no sum."""
    kinds = {
        kind
        for kind in _PER_LINK
        if kind not in _TOTALS or not asker.supported("nvlink_errors", kind)
    }
    values = asker.ask_values(
        handle,
        [
            ("nvlink_errors", (kind, link), _PER_LINK[kind], link)
            for kind in sorted(kinds)
            for link in range(links)
        ],
    )
    told = {
        kind: [
            values.get(("nvlink_errors", (kind, link)))
            for link in range(links)
            if asker.supported("nvlink_errors", (kind, link))
        ]
        for kind in kinds
    }
    return {
        kind: sum(int(count) for count in counts if count is not None)
        for kind, counts in told.items()
        if counts and None not in counts
    }
