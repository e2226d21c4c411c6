"""The recording rules: what dashboards and alerts share. Each is declared once, here.

Names follow ``level:metric:operation``. What the levels mean:

``allocation``
    A container's hold on one device. Every rule above it sums these, so that what is counted on
    one level is counted on all. Its series outlive the container by as long as ``rate`` still sees
    it, or the last minutes of every container would be lost.
``container``, ``pod``, ``workload``, ``namespace``
    What containers hold. Workloads are told with the exporter's pod watch on.
``node``, ``cluster``
    Whole boards, held or not; ``cluster`` is everything that this Prometheus sees.

GPUs are counted in whole ones: a slice counts by its part of the board's memory, a share of a
shared device by the part that the exporter books for it. A window in a name is the window of the
expression; a day is a moving one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from rules import mig
from rules.accounting import CAPACITY, COST, PRICE
from rules.allocations import ALLOCATIONS, PEERS
from rules.levels import Recording
from rules.reports import DAYS, REPORTS

_MIG_PROFILES: Final = (
    Recording(
        "gpu:gpu_mig_profile_memory:bytes",
        ("node", "uuid", "gpu", "profile"),
        "bytes",
        "Memory that a slice of this profile would have on this board.",
        mig.memory_expression(),
    ),
    Recording(
        "gpu:gpu_mig_profile_sm:ratio",
        ("node", "uuid", "gpu", "profile"),
        "ratio",
        "Part of the board's SMs that a slice of this profile would have.",
        mig.sm_expression(),
    ),
)

__all__ = ["RECORDINGS", "RECORDING_GROUPS", "REPORTS_SWITCH", "Recording", "RecordingGroup"]

REPORTS_SWITCH: Final = "groups.reports.enabled"
"""Path of the setting that switches the recording rules that only reports read."""


@dataclass(frozen=True, slots=True)
class RecordingGroup:
    """Recording rules that are evaluated one after the other."""

    name: str
    recordings: tuple[Recording, ...]
    switch: str | None = None
    """Path of the setting that switches the group; without one it is always on."""
    interval: str | None = None
    """Time between two evaluations, where it is not the usual one."""
    priced: bool = False
    """Whether the price table's rules come first."""


RECORDING_GROUPS: Final = (
    RecordingGroup("allocations", ALLOCATIONS),
    RecordingGroup("capacity", CAPACITY),
    RecordingGroup("cost", COST, priced=True),
    RecordingGroup("peers", PEERS),
    RecordingGroup("mig-profiles", _MIG_PROFILES),
    RecordingGroup("reports", REPORTS, switch=REPORTS_SWITCH),
    # A window of a day holds many samples and changes little from minute to minute.
    RecordingGroup("report-days", DAYS, switch=REPORTS_SWITCH, interval="5m"),
)
"""Groups in the order of what they need from each other."""

RECORDINGS: Final[Mapping[str, Recording]] = {
    recording.name: recording
    for recording in (
        PRICE,
        *chain.from_iterable(group.recordings for group in RECORDING_GROUPS),
    )
}
"""By name: what dashboards and alerts may use beside the metric table."""
