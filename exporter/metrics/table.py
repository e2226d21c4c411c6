"""The table of every family, by subject."""

from collections.abc import Mapping
from typing import Final

from exporter.metrics.container import CONTAINERS, UNATTRIBUTED
from exporter.metrics.family import Family
from exporter.metrics.gpu import IDENTITY, MEMORY, POWER_AND_CLOCKS, UTILIZATION
from exporter.metrics.hardware import HEALTH, LINKS
from exporter.metrics.mig import SLICES
from exporter.metrics.node import EXPORTER, NODE

SUBJECTS: Final[Mapping[str, tuple[Family, ...]]] = {
    "GPU: identity": IDENTITY,
    "GPU: utilization and activity": UTILIZATION,
    "GPU: memory": MEMORY,
    "GPU: power, clocks, temperature": POWER_AND_CLOCKS,
    "GPU: PCIe and NVLink": LINKS,
    "GPU: hardware health": HEALTH,
    "MIG slices": SLICES,
    "Containers": CONTAINERS,
    "Unattributed": UNATTRIBUTED,
    "Node": NODE,
    "The exporter itself": EXPORTER,
}

TABLE: Final[tuple[Family, ...]] = tuple(
    family for families in SUBJECTS.values() for family in families
)
