"""The alerts, by group."""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Alerts on one subject, which are switched on and off together."""

    name: str
    alerts: tuple[Alert, ...]
    on: bool = True
    """Whether the group is on by default."""

    @property
    def switch(self) -> str:
        """The path of the setting that switches it."""
        return f"groups.{self.name}.enabled"


ALERT_GROUPS: Final = (
    AlertGroup("underuse", UNDERUSE),
    AlertGroup("memory", MEMORY),
    AlertGroup("hardware", (*STATES, *XIDS, *ERRORS, *SLOWDOWNS, *LINKS)),
    AlertGroup("exporter", EXPORTER),
    AlertGroup("dcgm", DCGM, on=False),
)

ALERTS: Final[Mapping[str, Alert]] = MappingProxyType(
    {alert.name: alert for alert in chain.from_iterable(group.alerts for group in ALERT_GROUPS)}
)
