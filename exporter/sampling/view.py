"""A GPU as its tracker knows it at the moment, for those who book what containers use of it."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from exporter.model.devices import Gpu
from exporter.model.readings import FastReading, Memory, ProcessType


@dataclass(frozen=True, slots=True)
class GpuView:
    """A GPU with its last fast reading."""

    gpu: Gpu
    fast: FastReading
    """Empty while the GPU can't be read."""
    devices: AbstractSet[str]
    """The UUIDs of all devices whose counters the tracker keeps: the GPU, and its MIG slices of the
    present layout and of earlier ones."""

    @property
    def runs_mps(self) -> bool:
        """Whether an MPS client runs on the GPU."""
        return any(process.type is ProcessType.MPS for process in self.fast.processes or ())

    def memory_by_device(self) -> Iterator[tuple[str, Memory | None]]:
        """Yield each device that has memory of its own: the whole GPU, or its GPU instances.

        The memory of a GPU instance stands under the instance's leading slice.
        """
        if not self.gpu.mig_enabled:
            yield self.gpu.uuid, self.fast.memory
        for slice_ in self.gpu.leading_slices:
            yield slice_.uuid, self.fast.instance_memory.get(slice_.gpu_instance)
