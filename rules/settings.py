"""Every setting of the rules by its path, and the settings in force.

A settings file and the chart's values have the shape of this table: ``grace``, ``prices``,
``groups.underuse.enabled``, ``alerts.GPUContainerIdle.for``. What a file leaves out keeps its
default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import exporter
from exporter.model.snapshot import IDLE_RATIO
from rules.alerts import ALERT_GROUPS, ALERTS
from rules.recording import REPORTS_SWITCH
from rules.setting import Kind, Setting, Value, ratio, switch, window

GENERAL: Final[Mapping[str, Setting]] = MappingProxyType(
    {
        "runbooksUrl": Setting(
            f"{exporter.REPOSITORY}/blob/main/docs/runbooks/",
            Kind.URL,
            "Where the runbooks are. The page of an alert is at this URL plus its name and .md.",
        ),
        "dashboardsUrl": Setting(
            "",
            Kind.URL,
            "Grafana's address. Without one, alerts have no link to a dashboard.",
        ),
        "job": Setting(
            ".*gpu-exporter.*",
            Kind.PATTERN,
            "The label job of the exporter's targets has to match this.",
        ),
        "exemptNamespaces": Setting(
            (), Kind.NAMES, "Namespaces whose containers never cause an alert on underuse."
        ),
        "grace": window(
            "1h", "No alert on underuse fires for a container that started less than this ago."
        ),
        "idleRatio": ratio(
            IDLE_RATIO, "A container is idle if its device was busy for less than this share."
        ),
        "idleWindow": window("30m", "The time over which that share is measured."),
        "idleMemoryBytes": Setting(
            1073741824.0,
            Kind.BYTES,
            "An idle container with this much GPU memory causes GPUMemoryHeldIdle, with less"
            " GPUContainerIdle.",
        ),
    }
)
"""Settings of more than one alert."""


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
        REPORTS_SWITCH: switch("Whether the group's rules exist.", on=False),
        **{
            group.switch: switch("Whether the group's rules exist.", on=group.on)
            for group in ALERT_GROUPS
        },
        **{
            alert.path(key): setting
            for alert in ALERTS.values()
            for key, setting in alert.every_setting.items()
        },
    }


def defaults() -> Settings:
    return Settings({path: setting.default for path, setting in table().items()}, {})
