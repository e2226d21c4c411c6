"""Every threshold, duration, window and severity of the alerts, in one place.

A settings file and the chart's values have the shape of this table: ``grace``, ``prices``,
``groups.underuse.enabled``, ``alerts.GPUContainerIdle.for``. What a file does not say stays as it
is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

Value = bool | float | str | tuple[str, ...]


class Kind(StrEnum):
    """What a setting's value may be, and its unit."""

    SWITCH = "true or false"
    SEVERITY = "critical, warning or info"
    DURATION = "a duration, such as 30m"
    WAIT = "a duration, such as 5m, or 0s"
    SECONDS = "seconds"
    RATIO = "a ratio from 0 to 1"
    NUMBER = "a number that is not below 0"
    BYTES = "bytes"
    CELSIUS = "degrees Celsius"
    URL = "the beginning of a URL"
    PATTERN = "a regular expression"
    NAMES = "a list of names"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value that a user may change."""

    default: Value
    kind: Kind
    meaning: str


def _for(default: str) -> Setting:
    return Setting(default, Kind.WAIT, "How long it has to be so before the alert fires.")


def _window(default: str) -> Setting:
    return Setting(default, Kind.DURATION, "What is looked at.")


def _since(seconds: float) -> Setting:
    return Setting(seconds, Kind.SECONDS, "How long after the last one the alert stays.")


def _ratio(default: float, meaning: str) -> Setting:
    return Setting(default, Kind.RATIO, meaning)


def _number(default: float, meaning: str) -> Setting:
    return Setting(default, Kind.NUMBER, meaning)


def _alert(severity: str, for_: str, keep: str = "0s", **own: Setting) -> Mapping[str, Setting]:
    return MappingProxyType(
        {
            "enabled": Setting(
                default=True, kind=Kind.SWITCH, meaning="Whether there is the rule."
            ),
            "severity": Setting(severity, Kind.SEVERITY, "Label that decides where it goes."),
            "for": _for(for_),
            "keepFiringFor": Setting(
                keep, Kind.WAIT, "How long it stays after it was last so. 0s: not at all."
            ),
            **own,
        }
    )


_IDLE_WINDOW: Final = Setting(
    "30m", Kind.DURATION, "What is looked at: busy for less than 1 % of it, it is idle."
)
_PEAK_HELP: Final = "Part of a slice's memory that the highest use may take."

GENERAL: Final[Mapping[str, Setting]] = MappingProxyType(
    {
        "runbooksUrl": Setting(
            "https://example.com/kube-gpu-exporter/runbooks/",
            Kind.URL,
            "Where the runbooks are; an alert's page is this, its name and .md.",
        ),
        "dashboardsUrl": Setting(
            "", Kind.URL, "Grafana's address. Without one, alerts have no link to a dashboard."
        ),
        "job": Setting(
            ".*gpu-exporter.*", Kind.PATTERN, "Values of the label job of the exporter's targets."
        ),
        "exemptNamespaces": Setting(
            (), Kind.NAMES, "Namespaces whose containers no alert on underuse looks at."
        ),
        "grace": Setting(
            "1h", Kind.DURATION, "Time after its start in which no underuse is told of a container."
        ),
    }
)
"""Settings of more than one alert."""

GROUPS: Final[Mapping[str, bool]] = MappingProxyType(
    {"underuse": True, "memory": True, "hardware": True, "exporter": True, "dcgm": False}
)
"""Groups of alerts, and whether they are on by default."""

ALERTS: Final[Mapping[str, Mapping[str, Setting]]] = MappingProxyType(
    {
        # Underuse
        "GPUContainerIdle": _alert("warning", "5m", "10m", window=_IDLE_WINDOW),
        "GPUContainerUnderutilised": _alert(
            "warning",
            "30m",
            window=_window("30m"),
            busy=_ratio(0.5, "Mean share of time busy below which it is underutilised."),
        ),
        "GPUMemoryHeldIdle": _alert(
            "warning",
            "5m",
            "10m",
            window=_IDLE_WINDOW,
            memoryBytes=Setting(1073741824.0, Kind.BYTES, "Device memory held that counts."),
        ),
        "GPULowActivity": _alert(
            "info",
            "15m",
            window=_window("30m"),
            busy=_ratio(0.8, "Utilization from which the GPU looks busy."),
            sm=_ratio(0.2, "SM activity below which it is not."),
            dram=_ratio(0.2, "DRAM activity below which it is not."),
            power=_ratio(0.5, "Part of the power limit below which it is not."),
        ),
        "GPUOversized": _alert(
            "info",
            "1h",
            window=_window("6h"),
            memory=_ratio(0.9, _PEAK_HELP),
        ),
        "GPUUnallocated": _alert("info", "5m", window=_window("1d")),
        "GPUUsedOutsidePods": _alert(
            "warning",
            "15m",
            window=_window("15m"),
            busy=_ratio(0.05, "Share of time busy for nobody from which it counts."),
        ),
        "GPUSharedOversubscribed": _alert(
            "info",
            "15m",
            window=_window("30m"),
            busy=_ratio(0.95, "Share of time busy from which there is no time left."),
            tenant=_ratio(
                0.1, "Share of time busy from which a container counts as one that works."
            ),
            memory=_ratio(0.95, "Share of memory in use from which there is none left."),
        ),
        # Out of memory
        "GPUOutOfMemory": _alert("warning", "0s", window=_window("15m")),
        "GPUOutOfMemoryPossible": _alert("info", "0s", window=_window("15m")),
        "GPUOutOfMemoryLoop": _alert(
            "critical",
            "0s",
            window=_window("1h"),
            events=_number(3, "Ends for want of memory within the window."),
        ),
        "GPUMemoryGrowing": _alert(
            "warning",
            "5m",
            horizonSeconds=Setting(1800.0, Kind.SECONDS, "How far the growth is carried on."),
        ),
        "GPUMemoryNearlyFull": _alert(
            "info",
            "15m",
            used=_ratio(0.95, "Share of memory in use from which it is nearly full."),
            change=_ratio(
                0.01, "Change within 10 minutes below which memory counts as preallocated."
            ),
        ),
        "GPUContainerHostOOMKilled": _alert("warning", "0s", window=_window("15m")),
        # Hardware
        "GPUXidApplication": _alert("warning", "0s", sinceSeconds=_since(300.0)),
        "GPUXidResetGPU": _alert("critical", "0s", "10m", sinceSeconds=_since(86400.0)),
        "GPUXidRestartNode": _alert("critical", "0s", "10m", sinceSeconds=_since(86400.0)),
        "GPUXidHardware": _alert("warning", "0s", sinceSeconds=_since(3600.0)),
        "GPUXidFollowUp": _alert("info", "0s", sinceSeconds=_since(900.0)),
        "GPUXidUnknown": _alert("warning", "0s", sinceSeconds=_since(3600.0)),
        "GPUEccUncorrectable": _alert("warning", "0s", window=_window("1h")),
        "GPURowRemapPending": _alert("warning", "5m"),
        "GPURowRemapFailed": _alert("critical", "5m", "10m"),
        "GPURetiredPages": _alert(
            "warning",
            "5m",
            pages=_number(60, "Pages from which NVIDIA replaces the board."),
        ),
        "GPURecoveryActionNeeded": _alert("critical", "2m", "10m"),
        "GPULost": _alert("critical", "0s", "10m"),
        "GPUHung": _alert("critical", "2m", "10m"),
        "GPUUnreadable": _alert("warning", "10m"),
        "GPUDriverDown": _alert(
            "critical",
            "10m",
            window=Setting("1d", Kind.DURATION, "How far back the node was known to have GPUs."),
        ),
        "GPUFewerThanAdvertised": _alert(
            "warning",
            "10m",
            window=Setting("7d", Kind.DURATION, "How far back a board that is missing was there."),
        ),
        "GPUThermalSlowdown": _alert(
            "warning",
            "5m",
            "5m",
            window=_window("5m"),
            slowed=_ratio(0.1, "Share of time slowed down from which it counts."),
        ),
        "GPUPowerBrakeSlowdown": _alert(
            "warning",
            "5m",
            "5m",
            window=_window("5m"),
            slowed=_ratio(0.1, "Share of time slowed down from which it counts."),
        ),
        "GPUMemoryHot": _alert(
            "warning",
            "5m",
            "5m",
            marginCelsius=Setting(3.0, Kind.CELSIUS, "Distance from the memory's maximum."),
        ),
        "GPUPcieLinkDegraded": _alert(
            "warning",
            "10m",
            window=_window("10m"),
            busy=_ratio(0.1, "Share of time busy from which the link should be at its best."),
        ),
        "GPUPcieReplays": _alert(
            "warning",
            "5m",
            window=_window("15m"),
            perMinute=_number(8, "Replays a minute that are too many."),
        ),
        "GPUNvlinkDown": _alert(
            "warning",
            "5m",
            window=Setting("1d", Kind.DURATION, "How far back a link that is down was up."),
        ),
        "GPUNvlinkErrors": _alert("warning", "0s", window=_window("15m")),
        "GPUSlowerThanPeers": _alert(
            "warning",
            "15m",
            deviations=_number(5, "Median absolute deviations below the median."),
            below=_ratio(0.05, "Part of the median that it is below it, at the least."),
            peers=_number(4, "GPUs of the workload from which they can be compared."),
            busy=_ratio(0.5, "Share of time the GPU is busy from which its clock means something."),
        ),
        # The exporter
        "GPUExporterDown": _alert(
            "warning",
            "10m",
            window=_window("30m"),
            scraped=_ratio(
                0.8, "Part of the scrapes that succeed, of an exporter that comes and goes."
            ),
        ),
        "GPUExporterMissing": _alert("warning", "15m"),
        "GPUExporterAbsent": _alert("critical", "15m"),
        "GPUExporterSamplesStale": _alert(
            "warning",
            "5m",
            ageSeconds=Setting(120.0, Kind.SECONDS, "Age from which a GPU's last sample is stale."),
        ),
        "GPUExporterSourceDown": _alert("warning", "10m"),
        "GPUExporterSlow": _alert(
            "warning",
            "15m",
            window=_window("10m"),
            tickSeconds=Setting(
                5.0, Kind.SECONDS, "The exporter's full-interval, or kubelet-interval if longer."
            ),
        ),
        "GPUExporterUnresolvedClaims": _alert("warning", "15m"),
        "Watchdog": _alert("none", "0s"),
        # For those who run DCGM-exporter beside us
        "GPUUnderutilized": _alert(
            "warning", "30m", percent=_number(50, "Utilization in percent, as DCGM tells it.")
        ),
    }
)
"""Settings of each alert."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force: a value for every path of the table, and the prices."""

    values: Mapping[str, Value]
    prices: Mapping[str, float]
    """Of a GPU for an hour, by model, in whatever currency."""


def table() -> Mapping[str, Setting]:
    """Give every setting by its path."""
    return {
        **GENERAL,
        **{
            f"groups.{name}.enabled": Setting(
                default=on, kind=Kind.SWITCH, meaning="Whether there is the group."
            )
            for name, on in GROUPS.items()
        },
        **{
            f"alerts.{alert}.{key}": setting
            for alert, settings in ALERTS.items()
            for key, setting in settings.items()
        },
    }


def defaults() -> Settings:
    return Settings({path: setting.default for path, setting in table().items()}, {})
