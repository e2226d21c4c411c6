"""Memory of a simulated GPU and who holds it: pure functions of what is on it, and when."""

from collections.abc import Mapping

from exporter.gpus.simulated.layout import instance_memory_mib
from exporter.gpus.simulated.node import Node, Segment
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.workloads import memory_ratio, restarts, running
from exporter.model.readings import Memory, Process, ProcessType

MIB = 2**20

_CONTEXT_MIB = 13
"""What the driver itself holds of a GPU, or of each GPU instance."""
_MPS_SERVER_MIB = 30
_MPS_SERVER_PID = 5_000
_FIRST_PID = 10_000
_PIDS = 4_000_000
_HAIR = 1e-6
"""In MiB: so that a size said in bytes is not a MiB less for its way through a ratio."""
_RESTARTS = 1_000
"""More than a container makes in one run of a scenario."""


def processes(node: Node, index: int, segment: Segment, time: float) -> tuple[Process, ...]:
    """Return the processes on GPU ``index`` at scenario ``time``, each with its memory.

    Where more is asked for than there is, who came first keeps what they have.
    """
    runs, _ = node.cycle(time)
    mps = node.shared_by_mps(index)
    found = []
    free = {i: memory.free_bytes // MIB for i, memory in _empty(node, segment).items()}
    sizes = dict(free)
    if mps and segment.tenants:
        for part, room in free.items():
            free[part] = room - _MPS_SERVER_MIB
            pid = _MPS_SERVER_PID + 10 * index + (part or 0)
            held = _MPS_SERVER_MIB * MIB
            found.append(Process(pid, ProcessType.COMPUTE, held, part, None if part is None else 0))
    for tenant in segment.tenants:
        age = node.age(tenant, time)
        if not running(tenant.workload, age):
            continue
        part = tenant.slice.gpu_instance if tenant.slice else None
        ratio = memory_ratio(tenant.workload, age, sizes[part] * MIB)
        held = min(free[part], int(sizes[part] * ratio + _HAIR))
        free[part] -= held
        found.append(
            Process(
                pid=pid_of(node, tenant, runs, age),
                type=ProcessType.MPS if mps else ProcessType.COMPUTE,
                memory_used_bytes=held * MIB,
                gpu_instance=part,
                compute_instance=tenant.slice.compute_instance if tenant.slice else None,
            )
        )
    return tuple(found)


def pid_of(node: Node, tenant: Tenant, runs: int, age: float) -> int:
    """Return the host's pid of a tenant's process at ``age``: another one after each restart."""
    if tenant.of_cluster:  # each run is a tenant of its own
        return _FIRST_PID + tenant.number % _PIDS
    generation = runs * _RESTARTS + restarts(tenant.workload, age)
    return _FIRST_PID + (generation * len(node.tenants) + tenant.number) % _PIDS


def memory(
    node: Node, segment: Segment, held: tuple[Process, ...]
) -> tuple[Memory, Mapping[int, Memory]]:
    """Return the memory of the GPU, and of its GPU instances, while ``held`` hold theirs."""
    board = node.profile.board
    filled = _empty(node, segment)
    for process in held:
        part = filled[process.gpu_instance]
        filled[process.gpu_instance] = _memory(
            part.total_bytes,
            part.used_bytes + (process.memory_used_bytes or 0),
            part.reserved_bytes or 0,
        )
    instances = {i: part for i, part in filled.items() if i is not None}
    if not segment.gpu.mig_enabled:
        return filled[None], instances
    used = sum(part.used_bytes for part in instances.values())
    return _memory(board.memory_mib * MIB, used, board.reserved_mib * MIB), instances


def _empty(node: Node, segment: Segment) -> dict[int | None, Memory]:
    board = node.profile.board
    context = _CONTEXT_MIB * MIB
    if segment.gpu.mig_enabled:
        return {
            part.gpu_instance: _memory(instance_memory_mib(board, part) * MIB, context, 0)
            for part in segment.gpu.leading_slices
        }
    return {None: _memory(board.memory_mib * MIB, context, board.reserved_mib * MIB)}


def _memory(total: int, used: int, reserved: int) -> Memory:
    return Memory(total, used, total - used - reserved, reserved)
