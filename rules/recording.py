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
from itertools import chain
from typing import Final

from rules import mig
from rules.accounting import CAPACITY, COST, DAYS, ENERGY, PRICE
from rules.levels import Recording
from rules.usage import ALLOCATIONS, PEERS, RATIOS

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

__all__ = ["GROUPS", "RECORDINGS", "Recording"]

GROUPS: Final[Mapping[str, tuple[Recording, ...]]] = {
    "allocations": ALLOCATIONS,
    "ratios": RATIOS,
    "capacity": CAPACITY,
    "energy": ENERGY,
    "cost": COST,
    "days": DAYS,
    "peers": PEERS,
    "mig-profiles": _MIG_PROFILES,
}
"""Groups in the order of what they need from each other. ``cost`` begins with the price table."""

RECORDINGS: Final[Mapping[str, Recording]] = {
    recording.name: recording for recording in (PRICE, *chain.from_iterable(GROUPS.values()))
}
"""By name: what dashboards and alerts may use beside the metric table."""
