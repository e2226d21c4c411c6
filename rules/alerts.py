"""The alerts, by group."""

from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import Final

from rules.alert import Alert
from rules.dcgm import DCGM
from rules.exporter_health import EXPORTER
from rules.hardware import ERRORS, STATES
from rules.memory import MEMORY
from rules.performance import LINKS, SLOWDOWNS
from rules.underuse import UNDERUSE
from rules.xids import XIDS

GROUPS: Final[Mapping[str, tuple[Alert, ...]]] = MappingProxyType(
    {
        "underuse": UNDERUSE,
        "memory": MEMORY,
        "hardware": (*STATES, *XIDS, *ERRORS, *SLOWDOWNS, *LINKS),
        "exporter": EXPORTER,
        "dcgm": DCGM,
    }
)

ALERTS: Final[Mapping[str, Alert]] = MappingProxyType(
    {alert.name: alert for alert in chain.from_iterable(GROUPS.values())}
)
