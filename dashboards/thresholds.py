"""Where colours change: at the alerts' own thresholds, as they are by default."""

from rules.settings import ALERTS


def _of(alert: str, setting: str) -> float:
    value = ALERTS[alert][setting].default
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise TypeError(f"{alert}.{setting} is no number")
    return float(value)


def _seconds(alert: str, setting: str) -> float:
    minutes = str(ALERTS[alert][setting].default).removesuffix("m")
    return float(minutes) * 60


IDLE_SECONDS = _seconds("GPUContainerIdle", "window")
BUSY_LOW = _of("GPUContainerUnderutilised", "busy")
BUSY_OUTSIDE = _of("GPUUsedOutsidePods", "busy")
MEMORY_FULL = _of("GPUMemoryNearlyFull", "used")
MEMORY_MARGIN_CELSIUS = _of("GPUMemoryHot", "marginCelsius")
REPLAYS_PER_MINUTE = _of("GPUPcieReplays", "perMinute")
RETIRED_PAGES = _of("GPURetiredPages", "pages")
SAMPLE_AGE_SECONDS = _of("GPUExporterSamplesStale", "ageSeconds")
TICK_SECONDS = _of("GPUExporterSlow", "tickSeconds")
