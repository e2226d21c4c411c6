"""The three sources of utilization: the first of them that has something new is used."""

from collections.abc import Callable
from typing import Any

from exporter.gpus.nvml.gate import Gate
from exporter.model.readings import Activity, UtilizationSample


def from_sources(
    samples: tuple[UtilizationSample, ...] | None,
    rates: Any,
    activity: Activity | None,
    *,
    wall: Callable[[], float],
    gate: Gate,
) -> tuple[tuple[UtilizationSample, ...] | None, str | None]:
    """Return the utilization since the last reading, and where it comes from.

    ``rates`` are NVML's utilization rates. Some boards have no sample buffer, and in others it runs
    dry while they idle: then the latest rate, or else the performance monitor's mean, becomes a
    sample that ends now. The driver's times are the wall clock's, which is why ``wall`` gives Unix
    seconds: samples that the buffer gives later for the same time are not counted again.
    """
    if samples:
        return samples, "samples"
    percent = {
        "rates": None if rates is None else rates.gpu,
        "gpm": None if activity is None else _percent(activity.graphics_ratio),
    }
    for source, value in percent.items():
        if value is not None:
            raw = {"timestamp": wall() * 1e6, "ratio": value}
            if made := gate.pieces("utilization", UtilizationSample, [raw]):
                return made, source
    return samples, None


def _percent(ratio: float | None) -> float | None:
    return None if ratio is None else ratio * 100
