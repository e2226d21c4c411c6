"""The driver, whole GPUs and MIG slices: facts that outlive a reading."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model.clocks import Monotonic


@dataclass(frozen=True, slots=True)
class Driver:
    """The kernel driver of a node's GPUs."""

    vendor: str
    version: str
    cuda_version: str | None = None
    """The highest CUDA version that the driver supports, such as ``13.0``."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG device: a compute instance within a GPU instance.

    The compute instances of one GPU instance share its memory, and the driver reports one activity
    for all of them. So these values are kept per GPU instance: see :attr:`Gpu.leading_slices`.
    """

    uuid: str
    gpu_uuid: str
    gpu_index: int
    gpu_instance: int
    compute_instance: int
    profile: str
    """As the driver writes it in the device's name: ``1g.10gb``, ``1c.3g.40gb``, ``1g.10gb+me``."""
    sm_count: int | None = None
    placement_start: int | None = field(default=None, compare=False)
    """The first of the GPU's memory slices that the GPU instance takes, where it is known.

    Slices that differ only in this are equal, because the driver may fail to report it once.
    """


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical board. A change of its MIG layout makes a new value with the same uuid."""

    uuid: str
    index: int
    model: str
    minor_number: int | None = None
    """The N of ``/dev/nvidiaN``, which may differ from the index."""
    serial: str | None = None
    pci_bus_id: str | None = None
    """Domain, bus, device and function as the kernel writes them: ``0000:3b:00.0``."""
    architecture: str | None = None
    vbios_version: str | None = None
    sm_count: int | None = None
    mig_enabled: bool | None = None
    """``None``: the board can't do MIG."""
    slices: tuple[Slice, ...] = ()
    clock_max_hertz: Mapping[str, float] = field(default_factory=dict)
    temperature_threshold_celsius: Mapping[str, float] = field(default_factory=dict)
    pcie_link_generation_max: int | None = None
    pcie_link_width_max: int | None = None
    numbers: tuple[tuple[Monotonic, int], ...] = field(default=(), compare=False)
    """The driver's numbers for the GPU, each with the time since when, oldest first.

    ``index`` stays what it was when the GPU was first seen. The driver numbers GPUs anew when one
    comes or goes, and an id in a claim may be its number of that time.
    """

    @property
    def leading_slices(self) -> tuple[Slice, ...]:
        """The first slice of each GPU instance: the values of the instance stand under it.

        Memory and activity belong to the GPU instance. They are exported once per instance, so that
        sums over slices are correct when several compute instances share one.
        """
        leading: dict[int, Slice] = {}
        for slice_ in sorted(self.slices, key=lambda s: (s.gpu_instance, s.compute_instance)):
            leading.setdefault(slice_.gpu_instance, slice_)
        return tuple(leading.values())
