"""How a board's energy is divided among its devices."""

from collections.abc import Mapping

from exporter.model.devices import Gpu


def energy_shares(gpu: Gpu, busy_ratio: Mapping[str, float]) -> dict[str, float]:
    """Return each device's share of the board's energy, by device uuid; they sum to 1.

    A whole GPU has all of it. Under MIG the board has one meter: a slice's busy part counts by its
    share of the board's SMs, and what is left, the idle part, is split by the same size. What falls
    to SMs of no slice is the board's own. ``busy_ratio`` is the mean by slice uuid where that is
    known; before Hopper it is not, and size alone decides.
    """
    if not gpu.mig_enabled:
        return {gpu.uuid: 1.0}
    board = gpu.sm_count or sum(part.sm_count or 0 for part in gpu.slices)
    if not board:
        return {gpu.uuid: 1.0}
    size = {part.uuid: (part.sm_count or 0) / board for part in gpu.slices}
    busy = {uuid: size[uuid] * busy_ratio.get(uuid, 0.0) for uuid in size}
    idle = max(0.0, 1.0 - sum(busy.values()))
    shares = {uuid: busy[uuid] + idle * size[uuid] for uuid in size}
    return {gpu.uuid: max(0.0, 1.0 - sum(shares.values())), **shares}
