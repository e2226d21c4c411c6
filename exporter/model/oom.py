"""GPU out of memory: what is known when a container ended, and what that amounts to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.claims import Container
from exporter.model.pods import Termination


class Confidence(StrEnum):
    """How sure it is that a container died for want of GPU memory."""

    CONFIRMED = "confirmed"
    """Its own words say so, and nothing speaks against it."""
    LIKELY = "likely"
    """Its device filled up as it failed, or its words may mean host memory."""
    POSSIBLE = "possible"
    """Its device was nearly full as it failed, or there are words but another cause as well."""


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """The memory of a device that was allocated to the container, in the window before its end.

    All ``None``: the device was not read in the window.
    """

    uuid: str
    limit_bytes: int | None = None
    """All the memory of the GPU or slice."""
    peak_bytes: int | None = None
    """The most memory in use, by all containers, because a full device is full for all of them.

    If the driver's accounting kept a higher peak of the container's own processes, it is that peak.
    """
    rise_bytes: int | None = None
    """How far the use rose to that peak within the window; 0 if it was there all the time."""
    cotenant_bytes: Mapping[Container, int] = field(default_factory=dict)
    """The memory that the other containers on the device used at the peak, as far as known."""


@dataclass(frozen=True, slots=True)
class OomEvidence:
    """What is known about the end of a container that had devices.

    The window spans the last seconds of the run that ended, and nothing of the run before it.
    """

    termination: Termination
    devices: tuple[DeviceEvidence, ...]
    xids: frozenset[int] = frozenset()
    """XIDs on its GPUs in the window. On a shared or cut GPU they may be another container's."""


@dataclass(frozen=True, slots=True)
class OomVerdict:
    """A container ended for want of GPU memory."""

    termination: Termination
    confidence: Confidence
    rule: str
    """The name of the rule that decided: one of :data:`exporter.attribution.oom.RULES`."""
    device_uuid: str
    """The GPU or slice; of several, the one that the evidence points to most. Empty: unknown."""
    peak_bytes: int | None
    limit_bytes: int | None
    cotenant_bytes: Mapping[Container, int]


@dataclass(frozen=True, slots=True)
class OomTotals:
    """What has been judged of a container on a device since it was first seen there."""

    events: Mapping[Confidence, int]
    """Every confidence has its count, 0 included."""
    last: OomVerdict | None = None
