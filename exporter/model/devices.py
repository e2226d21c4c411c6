"""What there is: the driver, whole GPUs and MIG slices. Facts that outlive a reading."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Driver:
    """The kernel driver that answers for a node's GPUs."""

    vendor: str
    version: str
    cuda_version: str | None = None
    """Highest CUDA version that the driver supports, such as ``13.0``."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One MIG device: a compute instance within a GPU instance.

    Compute instances of one GPU instance share its memory and have one activity figure together, so
    such values are kept per GPU instance; see :attr:`Gpu.leading_slices`.
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
    """The first of the GPU's memory slices that the GPU instance takes, where the driver told.

    It is no part of who the slice is: a slice goes on when its place could not be asked for once.
    """


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical board. A change of its MIG layout makes a new value with the same uuid."""

    uuid: str
    index: int
    model: str
    minor_number: int | None = None
    """The N of ``/dev/nvidiaN``, which need not be the index."""
    serial: str | None = None
    pci_bus_id: str | None = None
    """Domain, bus, device and function in the kernel's form: ``0000:3b:00.0``."""
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

    @property
    def leading_slices(self) -> tuple[Slice, ...]:
        """The first slice of each GPU instance, the one under which the instance's values are told.

        Memory and activity belong to the GPU instance. Telling them once per instance keeps sums
        over slices true when several compute instances share one.
        """
        leading: dict[int, Slice] = {}
        for part in sorted(self.slices, key=lambda s: (s.gpu_instance, s.compute_instance)):
            leading.setdefault(part.gpu_instance, part)
        return tuple(leading.values())
