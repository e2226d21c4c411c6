"""From a board and its MIG layout to the devices that the driver would list."""

import re
import uuid
import zlib
from collections.abc import Sequence

from exporter.gpus.simulated.profiles import PCI_BUSES, Board, MigProfile, Profile
from exporter.model.devices import Gpu, Slice

# As the driver numbers GPU instances by size; the first free id of its range is taken.
_INSTANCE_IDS = {7: (0,), 4: (1, 2), 3: (1, 2), 2: (3, 4, 5, 6), 1: (7, 8, 9, 10, 11, 12, 13)}
_SPECIFICATION = re.compile(r"(?:(?P<ci>[1-7])c\.)?(?P<gi>[1-7]g)(?P<memory>\.\d+gb)?")


def identify(profile: Profile, index: int, layout: Sequence[str], seed: int) -> Gpu:
    """Return GPU ``index`` of a node with MIG ``layout``; an empty layout is MIG off.

    A layout lists slices as ``1g`` or ``1g.5gb``. Compute instances such as ``1c.3g`` share one GPU
    instance until it is full. UUIDs depend on seed, profile and place alone. Raises
    :class:`ValueError` when the board can't be cut like that.
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


def instance_memory_mib(board: Board, part: Slice) -> int:
    """Return the memory of the GPU instance that a slice lies in."""
    return _profile(board, part.profile)[0].memory_mib


def instance_sm_count(gpu: Gpu, instance: int) -> int:
    """Return the SMs of the compute instances of a GPU instance."""
    return sum(part.sm_count or 0 for part in gpu.slices if part.gpu_instance == instance)


def _slices(board: Board, gpu_uuid: str, index: int, layout: Sequence[str]) -> tuple[Slice, ...]:
    slices: list[Slice] = []
    taken: set[int] = set()
    memory = 0
    shared: tuple[MigProfile, int, int] | None = None  # profile, instance id, compute slices used
    for specification in layout:
        profile, width = _profile(board, specification)
        used = 0
        if width < profile.compute_slices and shared and shared[0] is profile:
            _, instance, used = shared
        if used == 0 or used + width > profile.compute_slices:
            used = 0
            free = [i for i in _INSTANCE_IDS[profile.compute_slices] if i not in taken]
            if not free:
                raise ValueError(f"no room for another {profile.name}")
            instance = free[0]
            taken.add(instance)
            memory += profile.memory_slices
        shared = (profile, instance, used + width)
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
    if memory > 8 or sum(s.sm_count or 0 for s in slices) > board.sm_count:
        raise ValueError(f"{' + '.join(layout)} does not fit on one {board.model}")
    return tuple(slices)


def _profile(board: Board, specification: str) -> tuple[MigProfile, int]:
    """Return the GPU instance profile that a slice lies in, and its own compute slices."""
    if not board.mig:
        raise ValueError(f"{board.model} can't do MIG")
    match = _SPECIFICATION.fullmatch(specification)
    for profile in board.mig if match else ():
        if match and profile.name in {
            match["gi"] + (match["memory"] or ""),
            f"{match['gi']}.{profile.name.partition('.')[2]}" if not match["memory"] else "",
        }:
            width = int(match["ci"] or profile.compute_slices)
            if width <= profile.compute_slices:
                return profile, width
    names = ", ".join(profile.name for profile in board.mig)
    raise ValueError(f"{board.model} has no MIG profile {specification!r}, only {names}")


def _uuid(text: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_OID, text)
