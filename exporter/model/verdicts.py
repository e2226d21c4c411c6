"""Verdicts on the ends of containers: the evidence, and what it amounts to."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model.claims import Container
from exporter.model.ends import RESPONSIBLE, Cause, Responsible
from exporter.model.oom import Confidence, OomEvidence, OomVerdict
from exporter.model.pods import Termination


@dataclass(frozen=True, slots=True)
class FirstFailure:
    """The first process of a job that failed on this node."""

    container: Container
    cause: Cause


@dataclass(frozen=True, slots=True)
class EndEvidence:
    """What is known of the end of a container that had devices."""

    memory: OomEvidence
    oom: OomVerdict | None = None
    """The verdict on GPU memory."""
    own_xids: frozenset[int] = frozenset()
    """XIDs that name a process of the container."""
    exclusive: bool = False
    """Whether nobody else had its GPUs, so that XIDs on the GPUs are its own."""
    gpu_lost: bool = False
    """Whether one of its GPUs is lost."""
    first: FirstFailure | None = None
    """An earlier failure in the same job, on this node."""

    @property
    def termination(self) -> Termination:
        return self.memory.termination

    @property
    def driver_answered(self) -> bool:
        """Whether the driver answered the exporter about the container's devices at the time."""
        return any(device.peak_bytes is not None for device in self.memory.devices)


@dataclass(frozen=True, slots=True)
class EndVerdict:
    """Why a container ended, and how sure that is."""

    termination: Termination
    cause: Cause
    confidence: Confidence
    rule: str
    """The name of the rule that decided: one of :data:`exporter.attribution.causes.RULES`."""
    oom: OomVerdict | None = None
    """The verdict on GPU memory, also where another cause is more likely."""
    first: FirstFailure | None = None
    """Of :attr:`Cause.PEER`: whose failure it follows."""

    @property
    def responsible(self) -> Responsible:
        return RESPONSIBLE[self.cause]


EndCounts = Mapping[tuple[Cause, Confidence], int]
"""How often a container ended, by cause and confidence. What never happened is left out."""
