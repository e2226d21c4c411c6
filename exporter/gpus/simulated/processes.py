"""The processes on a simulated GPU and their memory, as pure functions of scenario time."""

from collections.abc import Iterable, Mapping
from typing import Final

from exporter.gpus.simulated.layout import instance_memory_mib
from exporter.gpus.simulated.node import Node, Segment
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.workloads import memory_ratio, restarts, running
from exporter.model.readings import Memory, Process, ProcessType

MIB: Final = 2**20

_CONTEXT_MIB: Final = 13
"""The memory that the driver itself uses of a GPU, or of each GPU instance."""
_MPS_SERVER_MIB: Final = 30
_MPS_SERVER_PID: Final = 5_000
_FIRST_PID: Final = 10_000
_PIDS: Final = 4_000_000
_HAIR: Final = 1e-6
"""In MiB: so that a size said in bytes is not a MiB less for its way through a ratio."""
_RESTARTS: Final = 1_000
"""More restarts than a container has in one run of a scenario."""


def processes(node: Node, index: int, segment: Segment, time: float) -> tuple[Process, ...]:
    """Return the processes on GPU ``index`` at scenario ``time``, each with its memory.

    If they ask for more memory than there is, the first ones get theirs.
    """
    runs, _ = node.cycle(time)
    mps = node.shared_by_mps(index)
    sizes = {i: memory.free_bytes // MIB for i, memory in _empty(node, segment).items()}
    found = _mps_servers(index, sizes) if mps and segment.tenants else []
    free = {i: size - _MPS_SERVER_MIB * bool(found) for i, size in sizes.items()}
    for tenant in segment.tenants:
        age = node.age(tenant, time)
        if not running(tenant.workload, age):
            continue
        instance = tenant.slice.gpu_instance if tenant.slice else None
        ratio = memory_ratio(tenant.workload, age, sizes[instance] * MIB)
        used = min(free[instance], int(sizes[instance] * ratio + _HAIR))
        free[instance] -= used
        found.append(
            Process(
                pid=pid_of(node, tenant, runs, age),
                type=ProcessType.MPS if mps else ProcessType.COMPUTE,
                memory_used_bytes=used * MIB,
                gpu_instance=instance,
                compute_instance=tenant.slice.compute_instance if tenant.slice else None,
            )
        )
    return tuple(found)


def _mps_servers(index: int, instances: Iterable[int | None]) -> list[Process]:
    """Return the MPS server of each GPU instance of GPU ``index``; ``None`` is the whole GPU."""
    return [
        Process(
            pid=_MPS_SERVER_PID + 10 * index + (instance or 0),
            type=ProcessType.COMPUTE,
            memory_used_bytes=_MPS_SERVER_MIB * MIB,
            gpu_instance=instance,
            compute_instance=None if instance is None else 0,
        )
        for instance in instances
    ]


def pid_of(node: Node, tenant: Tenant, runs: int, age: float) -> int:
    """Return the pid on the host of a tenant's process at ``age``. A restart brings a new pid."""
    if tenant.of_cluster:  # each run is a tenant of its own
        return _FIRST_PID + tenant.number % _PIDS
    generation = runs * _RESTARTS + restarts(tenant.workload, age)
    return _FIRST_PID + (generation * len(node.tenants) + tenant.number) % _PIDS


def memory(
    node: Node, segment: Segment, listed: tuple[Process, ...]
) -> tuple[Memory, Mapping[int, Memory]]:
    """Return the memory of the GPU and of its GPU instances, with the ``listed`` processes."""
    board = node.profile.board
    filled = _empty(node, segment)
    for process in listed:
        before = filled[process.gpu_instance]
        filled[process.gpu_instance] = _memory(
            before.total_bytes,
            before.used_bytes + (process.memory_used_bytes or 0),
            before.reserved_bytes or 0,
        )
    instances = {i: memory for i, memory in filled.items() if i is not None}
    if not segment.gpu.mig_enabled:
        return filled[None], instances
    used = sum(memory.used_bytes for memory in instances.values())
    return _memory(board.memory_mib * MIB, used, board.reserved_mib * MIB), instances


def _empty(node: Node, segment: Segment) -> dict[int | None, Memory]:
    board = node.profile.board
    context = _CONTEXT_MIB * MIB
    if segment.gpu.mig_enabled:
        return {
            slice_.gpu_instance: _memory(instance_memory_mib(board, slice_) * MIB, context, 0)
            for slice_ in segment.gpu.leading_slices
        }
    return {None: _memory(board.memory_mib * MIB, context, board.reserved_mib * MIB)}


def _memory(total: int, used: int, reserved: int) -> Memory:
    return Memory(total, used, total - used - reserved, reserved)
