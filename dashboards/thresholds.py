"""Where colours change: at the alerts' own thresholds, as they are by default."""

from rules.alerts import ALERTS


def _of(alert: str, setting: str) -> float:
    return ALERTS[alert].settings[setting].number


BUSY_LOW = _of("GPUContainerUnderutilized", "busy")
BUSY_OUTSIDE = _of("GPUUsedOutsidePods", "busy")
MEMORY_FULL = _of("GPUMemoryNearlyFull", "used")
MEMORY_MARGIN_CELSIUS = _of("GPUMemoryHot", "marginCelsius")
REPLAYS_PER_MINUTE = _of("GPUPcieReplays", "perMinute")
RETIRED_PAGES = _of("GPURetiredPages", "pages")
SAMPLE_AGE_SECONDS = _of("GPUExporterSamplesStale", "ageSeconds")
TICK_SECONDS = _of("GPUExporterSlow", "tickSeconds")
