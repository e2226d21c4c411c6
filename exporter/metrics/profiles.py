"""Which families a scrape has: a profile, with families added and taken away by name.

Every series costs some 6 kB of a Prometheus server's memory, so a fleet of 8 000 GPUs pays for each
family that nobody reads. ``standard`` is what the rules and dashboards of this project read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from exporter.metrics.family import Family, Point
from exporter.metrics.table import TABLE
from exporter.model.snapshot import Snapshot


class Profile(StrEnum):
    """Each profile has all families of those before it."""

    MINIMAL = "minimal"
    """Who has a GPU, whether it is busy, and whether it is broken."""
    STANDARD = "standard"
    FULL = "full"


_MINIMAL: Final = frozenset(
    {
        "gpu_info",
        "gpu_utilization_ratio",
        "gpu_busy_seconds_total",
        "gpu_memory_total_bytes",
        "gpu_memory_used_bytes",
        "gpu_power_draw_watts",
        "gpu_energy_joules_total",
        "gpu_temperature_celsius",
        "gpu_ecc_errors_total",
        "gpu_row_remap_pending",
        "gpu_row_remap_failed",
        "gpu_recovery_action",
        "gpu_xid_errors_total",
        "gpu_xid_last_timestamp_seconds",
        "gpu_mig_info",
        "gpu_mig_memory_total_bytes",
        "gpu_mig_memory_used_bytes",
        "gpu_mig_busy_seconds_total",
        "gpu_allocation_info",
        "gpu_container_start_timestamp_seconds",
        "gpu_container_allocated_seconds_total",
        "gpu_container_busy_seconds_total",
        "gpu_container_memory_used_bytes",
        "gpu_container_memory_limit_bytes",
        "gpu_container_oom_events_total",
        "gpu_container_oom_last_timestamp_seconds",
        "gpu_allocatable_devices",
        "gpu_allocated_devices",
        "gpu_unresolved_claims",
        "gpu_exporter_build_info",
        "gpu_exporter_time_seconds",
        "gpu_exporter_gpus",
        "gpu_exporter_gpu_state",
        "gpu_exporter_source_up",
        "gpu_exporter_last_sample_timestamp_seconds",
    }
)

_FULL: Final = frozenset(
    {
        "gpu_utilization_peak_ratio",
        "gpu_memory_busy_ratio",
        "gpu_engine_utilization_ratio",
        "gpu_sm_occupancy_ratio",
        "gpu_processes",
        "gpu_memory_free_bytes",
        "gpu_clock_max_hertz",
        "gpu_performance_state",
        "gpu_mig_memory_free_bytes",
        "gpu_mig_sm_occupancy_ratio",
        "gpu_container_utilization_peak_ratio",
        "gpu_unattributed_energy_joules_total",
    }
)

COMMON: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "gpu_clock_hertz": frozenset({"sm"}),
        "gpu_pipe_activity_ratio": frozenset({"tensor"}),
        "gpu_mig_pipe_activity_ratio": frozenset({"tensor"}),
        "gpu_row_remap_banks": frozenset({"low", "none"}),
        "gpu_temperature_threshold_celsius": frozenset({"memory_max"}),
    }
)
"""Of some families ``standard`` has only these values of the last label. ``full`` has all of them,
and so has a family that is added by name."""


def profile_of(family: Family) -> Profile:
    """Return the smallest profile that has the family."""
    if family.name in _MINIMAL:
        return Profile.MINIMAL
    return Profile.FULL if family.name in _FULL else Profile.STANDARD


def select(words: Iterable[str]) -> tuple[Family, ...]:
    """Return the families that ``words`` ask for, in the table's order.

    A word is a profile, a family's name, or a name behind a minus sign, which takes the family
    away; ``*`` in a name stands for anything. Without a profile it is ``standard``. Raises
    :class:`ValueError` for a word that is none of these.
    """
    profile, added, removed = Profile.STANDARD, list[str](), list[str]()
    for word in words:
        if word in set(Profile):
            profile = Profile(word)
        elif word.startswith("-"):
            removed += _named(word[1:])
        else:
            added += _named(word)
    ranks = list(Profile)
    chosen = []
    for family in TABLE:
        if family.name in removed:
            continue
        if family.name in added or profile is Profile.FULL:
            chosen.append(family)
        elif ranks.index(profile_of(family)) <= ranks.index(profile):
            chosen.append(_narrowed(family))
    return tuple(chosen)


def _named(pattern: str) -> list[str]:
    names = [family.name for family in TABLE]
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        near = get_close_matches(pattern, [*names, *Profile], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"{pattern!r} is neither a profile nor a metric{hint}")
    return found


def _narrowed(family: Family) -> Family:
    common = COMMON.get(family.name)
    if common is None:
        return family

    def points(snapshot: Snapshot) -> list[Point]:
        return [point for point in family.points(snapshot) if point[0][-1] in common]

    return replace(family, points=points)
