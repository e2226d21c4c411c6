"""Books on containers what their devices did. The rest of each step is unattributed.

The sum over the containers of a device never exceeds what the device did. A container that is alone
on its device gets each step, as far as the interval of the step belongs to the container's entry. A
container on a shared device gets its share of that, if the driver's figures of single processes say
what the share is.
"""

from collections.abc import Iterable, Mapping

from exporter.attribution.sharing import Usage, split_energy
from exporter.model.claims import Container
from exporter.model.clocks import Monotonic
from exporter.model.readings import Memory
from exporter.model.steps import BusyStep, EnergyStep
from exporter.sampling.entries import Device, Entries


def book_busy(
    entries: Entries,
    gpu_uuid: str,
    steps: Iterable[BusyStep],
    now: Monotonic,
    shares: Mapping[Container, float] | None,
) -> None:
    """Book the busy time that a GPU's full reading at ``now`` added to each of the GPU's devices.

    ``shares`` gives each container's share of the whole GPU's busy time, if the container could be
    measured. ``None``: no container on the shared GPU could be measured.
    """
    for device in entries.devices_of(gpu_uuid):
        device.has_utilization, device.unmeasured_holders = False, None
    for entry in entries.on_gpu(gpu_uuid):
        entry.gauges.utilization = None
    for step in steps:
        device = entries.device(step.device_uuid, gpu_uuid)
        if shares is not None and step.device_uuid == gpu_uuid:
            holders = {e.allocation.container for e in entries.measured_on(gpu_uuid)}
            device.unmeasured_holders = holders - shares.keys()
        _book_busy_step(entries, device, step, now, shares or {})


def _book_busy_step(
    entries: Entries,
    device: Device,
    step: BusyStep,
    now: Monotonic,
    shares: Mapping[Container, float],
) -> None:
    since = device.begin_busy_step(now)
    left = step.busy.seconds
    for entry in filter(entries.is_measured, entries.measured_on(step.device_uuid)):
        allocation = entry.allocation
        share = 1.0 if allocation.sole else shares.get(allocation.container, 0.0)
        entry.use(step.busy, share, since, now)
        left -= entry.add_busy(step.busy.seconds * share, since, now)
        if entry.busy_seconds is None:
            entries.begin_counters(entry)
    if since < now:
        device.unmetered_busy += step.busy.seconds
    device.unattributed_busy = (device.unattributed_busy or 0.0) + max(0.0, left)


def book_energy(entries: Entries, steps: Iterable[EnergyStep], now: Monotonic) -> None:
    """Book the energy that devices took up to ``now``, as ``split_energy`` splits it."""
    for step in steps:
        device = entries.device(step.device_uuid)
        elapsed = device.begin_energy_step(now)
        holders = entries.allocated_on(step.device_uuid)
        usages = [Usage(entry.unmetered.busy, entry.unmetered.allocated) for entry in holders]
        joules = split_energy(step.joules, elapsed, device.unmetered_busy, usages)
        left = step.joules
        for entry, own in zip(holders, joules, strict=True):
            left -= entry.add_energy(own)
            entries.begin_counters(entry)
        device.unmetered_busy = 0.0
        device.unattributed_energy = (device.unattributed_energy or 0.0) + max(0.0, left)


def book_memory(
    entries: Entries,
    device_uuid: str,
    memory: Memory | None,
    by_container: Mapping[Container, int] | None,
) -> None:
    """Take the memory that is in use on a device, and by each container that can be measured.

    Only a container that is alone on its device has a limit: all the memory of the device.
    """
    left = memory.used_bytes if memory else None
    for entry in entries.measured_on(device_uuid):
        if entry.ended is not None:
            continue
        used = limit = None
        if memory is not None and entry.allocation.sole:
            used, limit = memory.used_bytes, memory.total_bytes
        elif memory is not None and by_container is not None:
            used = by_container.get(entry.allocation.container)
        entry.set_memory(used, limit)
        left = None if left is None or used is None else max(0, left - used)
    entries.device(device_uuid).unattributed_memory = left
