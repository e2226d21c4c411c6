"""The devices that the driver would list for a board with a MIG layout."""

import re
import uuid
import zlib
from collections.abc import Sequence
from typing import Final

from exporter.gpus.simulated.profiles import PCI_BUSES, Board, MigProfile, Profile
from exporter.model.devices import Gpu, Slice

_INSTANCE_IDS: Final = {
    7: (0,),
    4: (1, 2),
    3: (1, 2),
    2: (3, 4, 5, 6),
    1: (7, 8, 9, 10, 11, 12, 13),
}
"""The ids that the driver gives to GPU instances, by size. The first free id is taken."""
_SPECIFICATION: Final = re.compile(r"(?:(?P<ci>[1-7])c\.)?(?P<gi>[1-7]g)(?P<memory>\.\d+gb)?")


def identify(profile: Profile, index: int, layout: Sequence[str], seed: int) -> Gpu:
    """Return GPU ``index`` of a node with a MIG ``layout``; an empty layout means MIG is off.

    A layout lists slices as ``1g`` or ``1g.5gb``. Compute instances such as ``1c.3g`` share one GPU
    instance until it is full. UUIDs depend only on the seed, the profile and the place. Raises
    :class:`ValueError` if the board does not have that layout.
    """
    board = profile.board
    gpu_uuid = f"GPU-{_uuid(f'{seed}/{profile.name}/{index}')}"
    return Gpu(
        uuid=gpu_uuid,
        index=index,
        model=board.model,
        minor_number=index,
        serial=str(1_320_000_000_000 + zlib.crc32(gpu_uuid.encode())),
        pci_bus_id=f"0000:{PCI_BUSES[index]:02x}:00.0",
        architecture=board.architecture,
        vbios_version=board.vbios_version,
        sm_count=board.sm_count,
        mig_enabled=bool(layout) if board.mig else None,
        slices=_slices(board, gpu_uuid, index, layout),
        clock_max_hertz={name: mhz * 1e6 for name, mhz in board.clock_max_mhz.items()},
        temperature_threshold_celsius={
            name: float(value) for name, value in board.temperature_threshold_celsius.items()
        },
        pcie_link_generation_max=board.pcie_generation,
        pcie_link_width_max=16,
    )


def instance_memory_mib(board: Board, slice_: Slice) -> int:
    """Return the memory of a slice's GPU instance."""
    return _profile(board, slice_.profile)[0].memory_mib


def instance_sm_count(gpu: Gpu, instance: int) -> int:
    """Return the SMs of all compute instances of a GPU instance."""
    return sum(s.sm_count or 0 for s in gpu.slices if s.gpu_instance == instance)


class _Instances:
    """Creates GPU instances, and fills each with compute instances before the next."""

    def __init__(self) -> None:
        self.memory_slices = 0
        """The memory slices of all instances together."""
        self._taken: set[int] = set()
        self._last: tuple[MigProfile, int] | None = None
        """The profile and the id of the last instance."""
        self._used = 0
        """How many compute slices of the last instance are used."""

    def place(self, profile: MigProfile, width: int) -> tuple[int, int]:
        """Return the id of the instance for ``width`` compute slices, and the first of these."""
        if self._last and self._last[0] is profile and width < profile.compute_slices:
            first, self._used = self._used, self._used + width
            if self._used <= profile.compute_slices:
                return self._last[1], first
        free = [i for i in _INSTANCE_IDS[profile.compute_slices] if i not in self._taken]
        if not free:
            raise ValueError(f"no room for another {profile.name}")
        self._taken.add(free[0])
        self.memory_slices += profile.memory_slices
        self._last, self._used = (profile, free[0]), width
        return free[0], 0


def _slices(board: Board, gpu_uuid: str, index: int, layout: Sequence[str]) -> tuple[Slice, ...]:
    slices: list[Slice] = []
    instances = _Instances()
    for specification in layout:
        profile, width = _profile(board, specification)
        instance, used = instances.place(profile, width)
        name = profile.name if width == profile.compute_slices else f"{width}c.{profile.name}"
        slices.append(
            Slice(
                uuid=f"MIG-{_uuid(f'{gpu_uuid}/{instance}/{used}/{name}')}",
                gpu_uuid=gpu_uuid,
                gpu_index=index,
                gpu_instance=instance,
                compute_instance=used,
                profile=name,
                sm_count=profile.sm_count * width // profile.compute_slices,
            )
        )
    sm_count = sum(slice_.sm_count or 0 for slice_ in slices)
    if instances.memory_slices > 8 or sm_count > board.sm_count:
        raise ValueError(f"{' + '.join(layout)} does not fit on one {board.model}")
    return tuple(slices)


def _profile(board: Board, specification: str) -> tuple[MigProfile, int]:
    """Return the profile of a slice's GPU instance, and the compute slices of the slice itself."""
    if not board.mig:
        raise ValueError(f"{board.model} can't do MIG")
    if match := _SPECIFICATION.fullmatch(specification):
        for profile in board.mig:
            size, _, memory = profile.name.partition(".")
            fits = size == match["gi"] and match["memory"] in {None, f".{memory}"}
            width = int(match["ci"] or profile.compute_slices)
            if fits and width <= profile.compute_slices:
                return profile, width
    names = ", ".join(profile.name for profile in board.mig)
    raise ValueError(f"{board.model} has no MIG profile {specification!r}, only {names}")


def _uuid(text: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, text)
