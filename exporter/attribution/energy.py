"""Splits a board's energy among its devices."""

from collections.abc import Mapping

from exporter.model.devices import Gpu


def energy_shares(gpu: Gpu, busy_ratio: Mapping[str, float]) -> dict[str, float]:
    """Return each device's share of the board's energy, by device UUID. The shares sum to 1.

    Without MIG the GPU itself has all of it. Under MIG the board has one meter for all slices, and
    the number of SMs is the size of a slice:

    - The energy of busy time goes to slices by size times ``busy_ratio``, the mean utilization of
      each slice, by UUID. A slice that is missing there counts as idle, as all slices do before
      Hopper.
    - The rest, the idle energy, goes to slices by size.
    - What falls to SMs that belong to no slice is the board's own, under the GPU's UUID.
    """
    if not gpu.mig_enabled:
        return {gpu.uuid: 1.0}
    board_sms = gpu.sm_count or sum(slice_.sm_count or 0 for slice_ in gpu.slices)
    if not board_sms:
        return {gpu.uuid: 1.0}
    size = {slice_.uuid: (slice_.sm_count or 0) / board_sms for slice_ in gpu.slices}
    busy = {uuid: size[uuid] * busy_ratio.get(uuid, 0.0) for uuid in size}
    idle = max(0.0, 1.0 - sum(busy.values()))
    shares = {uuid: busy[uuid] + idle * size[uuid] for uuid in size}
    return {gpu.uuid: max(0.0, 1.0 - sum(shares.values())), **shares}
