"""What a reading adds to a device. A GPU's tracker makes these steps, and the ledger books them."""

from dataclasses import dataclass


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
