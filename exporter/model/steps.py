"""The readings of one visit to a GPU, and the steps that they add to its devices.

The GPU's tracker makes the steps, and the ledger books them on containers.
"""

from dataclasses import dataclass

from exporter.model.readings import FastReading, FullReading, SlowReading


@dataclass(frozen=True, slots=True)
class Readings:
    """What one visit to a GPU gave: always a fast reading, the others when they were due."""

    fast: FastReading
    full: FullReading | None = None
    slow: SlowReading | None = None


@dataclass(frozen=True, slots=True)
class Busy:
    """What the utilization over an interval amounts to."""

    seconds: float
    """Busy time since the last batch of samples: exact to one sample period of the driver."""
    mean_ratio: float
    peak_ratio: float


@dataclass(frozen=True, slots=True)
class BusyStep:
    """What a full reading added to a device's busy time."""

    device_uuid: str
    busy: Busy
    """Where the driver keeps no samples, the peak is the mean."""


@dataclass(frozen=True, slots=True)
class EnergyStep:
    """What a slow reading added to a device's energy."""

    device_uuid: str
    joules: float


@dataclass(frozen=True, slots=True)
class Steps:
    """What the readings of one visit added to a GPU and its slices."""

    busy: tuple[BusyStep, ...] = ()
    energy: tuple[EnergyStep, ...] = ()
