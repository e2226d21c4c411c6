"""What an alert is, and what several of them say alike."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent, indent
from types import MappingProxyType
from typing import Final


class Audience(StrEnum):
    """Whom an alert is for: who runs the workload, or who runs the node."""

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


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    In its texts ``${name}`` is a setting, the alert's own or else a general one, and ``${NAME}`` a
    fragment that several alerts have.
    """

    name: str
    audience: Audience
    dashboard: Dashboard
    labels: tuple[str, ...]
    """What the expression's series are told apart by, and all the labels that they have."""
    summary: str
    """One sentence."""
    description: str
    """Numbers, names, and what follows from them."""
    expr: str

    @property
    def filled_description(self) -> str:
        return _filled(self.description, _IN_TEXTS)

    @property
    def filled_expr(self) -> str:
        return _filled(dedent(self.expr).strip(), _IN_EXPRESSIONS)


GPU: Final = ("node", "gpu", "uuid")
CONTAINER: Final = ("node", "namespace", "pod", "container")
HELD: Final = (*CONTAINER, "gpu", "uuid")

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
        "HELD": ", ".join(HELD),
        # What tells a container's holds apart.
        "HOLD": "node, namespace, pod, container, uuid",
        # Selects containers of namespaces that are not exempt; an empty list exempts none.
        "NAMESPACES": 'namespace!~"${exemptNamespaces}"',
        # Keeps containers that are past the grace, give or take an outage of ours back then.
        "OLD_ENOUGH": (
            "and on (node, namespace, pod, container, uuid)\n"
            "last_over_time(gpu_allocation_info[15m] offset ${grace})"
        ),
        # By the busy counter, for idle_seconds begins anew with each pulse and each restart of the
        # exporter. Known before the window, or who is new would idle; and there still, for the
        # counters of a container that has ended stay a while.
        "IDLE": (
            "(\n"
            "  sum by (node, namespace, pod, container, gpu, uuid) (\n"
            "    rate(\n"
            '      gpu_container_busy_seconds_total{namespace!~"${exemptNamespaces}"}[${window}]\n'
            "    )\n"
            "  )\n"
            "  / on (node, namespace, pod, container, gpu, uuid)\n"
            "  sum by (node, namespace, pod, container, gpu, uuid) (\n"
            "    rate(gpu_container_allocated_seconds_total[${window}])\n"
            "  )\n"
            ") < 0.01\n"
            "and on (node, namespace, pod, container, uuid) gpu_container_idle_seconds\n"
            "and on (node, namespace, pod, container, uuid)\n"
            "last_over_time(gpu_container_busy_seconds_total[15m] offset ${window})"
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
