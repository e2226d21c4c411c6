"""What an alert is, and the fragments that several alerts share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from textwrap import dedent, indent
from types import MappingProxyType
from typing import Final

from rules.setting import Kind, Setting, switch, wait


class Audience(StrEnum):
    """Whom an alert is for: the owner of the workload, or the operator of the node."""

    OWNER = "owner"
    OPERATOR = "operator"


class Dashboard(StrEnum):
    """The uid of the dashboard that shows more."""

    FLEET = "gpu-fleet"
    NODE = "gpu-node"
    WORKLOAD = "gpu-workload"
    EFFICIENCY = "gpu-efficiency"
    HEALTH = "gpu-health"
    SHARING = "gpu-sharing"
    EXPORTER = "gpu-exporter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, with everything that belongs to it but its runbook's page.

    In its texts ``${name}`` is a setting, the alert's own or else a general one, and ``${NAME}`` a
    fragment that several alerts have.
    """

    name: str
    severity: str
    for_: str
    """How long the condition has to hold before the alert fires."""
    keep: str = "0s"
    """How long the alert stays after the condition last held."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Thresholds and windows of its own."""
    audience: Audience
    dashboard: Dashboard
    labels: tuple[str, ...]
    """All the labels that the expression's series have."""
    summary: str
    """One sentence."""
    description: str
    """Numbers, names, and what follows from them."""
    expr: str

    @property
    def every_setting(self) -> Mapping[str, Setting]:
        """The settings that every alert has, and its own."""
        return {
            "enabled": switch("Whether the rule exists.", on=True),
            "severity": Setting(self.severity, Kind.SEVERITY, "Decides who gets the alert."),
            "for": wait(self.for_, "How long the condition has to hold before the alert fires."),
            "keepFiringFor": wait(
                self.keep, "How long the alert stays after the condition last held."
            ),
            **self.settings,
        }

    def path(self, key: str) -> str:
        """Give the path of a setting of this alert."""
        return f"alerts.{self.name}.{key}"

    @property
    def filled_description(self) -> str:
        return _filled(self.description, _IN_TEXTS)

    @property
    def filled_expr(self) -> str:
        return _filled(dedent(self.expr).strip(), _IN_EXPRESSIONS)


GPU: Final = ("node", "gpu", "uuid")
CONTAINER: Final = ("node", "namespace", "pod", "container")
ALLOCATION: Final = (*CONTAINER, "gpu", "uuid")

_IN_TEXTS: Final = MappingProxyType(
    {
        "GPU": "GPU {{ $labels.gpu }} ({{ $labels.uuid }}) of node {{ $labels.node }}",
        "DEVICE": "GPU {{ $labels.gpu }} (device {{ $labels.uuid }}) of node {{ $labels.node }}",
        "CONTAINER": (
            "Container {{ $labels.container }} of pod {{ $labels.namespace }}/{{ $labels.pod }}"
        ),
    }
)
_IN_EXPRESSIONS: Final = MappingProxyType(
    {
        "GPU": ", ".join(GPU),
        "CONTAINER": ", ".join(CONTAINER),
        "ALLOCATION": ", ".join(ALLOCATION),
        # The labels that identify an allocation.
        "ALLOCATION_KEY": "node, namespace, pod, container, uuid",
        # Selects containers of namespaces that are not exempt; an empty list exempts none.
        "NAMESPACES": 'namespace!~"${exemptNamespaces}"',
        # Keeps containers that are past the grace, give or take an outage of ours back then.
        "OLD_ENOUGH": (
            "and on (node, namespace, pod, container, uuid)\n"
            "last_over_time(gpu_allocation_info[15m] offset ${grace})"
        ),
        **{
            f"NOT_EXEMPT_{word.upper()}": (
                "unless on (node, namespace, pod)\n"
                f'gpu_allocation_info{{exempt=~"(.*,)?(all|{word})(,.*)?"}}'
            )
            for word in ("underuse", "memory")
        },
    }
)


def matching(label: str, values: str) -> str:
    """Select by a label's value, or by a pattern where ``values`` is one."""
    return f'{label}{"=~" if re.search(r"[.*+|(]", values) else "="}"{values}"'


def _filled(text: str, fragments: Mapping[str, str]) -> str:
    """Fill in fragments where they stand, and leave settings in their places."""

    def fill(match: re.Match[str]) -> str:
        return indent(fragments[match[2]], match[1]) if match[1] else fragments[match[2]]

    return re.sub(r"((?<=\n) *)?\$\{([A-Z_]+)\}", fill, text)
