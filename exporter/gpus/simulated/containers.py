"""The simulated containers' own fates: their processes, restarts and ends."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.processes import pid_of
from exporter.gpus.simulated.workloads import WorkloadKind, last_end, restarts, running
from exporter.model.claims import Container

OUT_OF_MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the API server would know of a container, and ``/proc`` of its processes."""

    container: Container
    pids: tuple[int, ...]
    """The host's; none while the container is not running."""
    restarts: int
    last_end: float | None
    """When it last ended; ``None``: it is in its first life."""
    last_exit_code: int | None = None
    last_message: str = ""
    """The termination message of the last end."""


def containers(node: Node, time: float) -> tuple[ContainerState, ...]:
    """Return every container that has started in this run of the scenario, the ended ones too.

    ``last_end`` is in scenario seconds.
    """
    found: dict[Container, ContainerState] = {}
    for state in _states(node, time):
        other = found.get(state.container)
        # A container on several GPUs has a process on each.
        found[state.container] = replace(state, pids=other.pids + state.pids) if other else state
    return tuple(found.values())


def _states(node: Node, time: float) -> Iterator[ContainerState]:
    runs, phase = node.cycle(time)
    for tenant in node.tenants:
        if tenant.start <= phase:
            yield _state(node, tenant, min(phase, tenant.end), runs, time - phase)


def _state(node: Node, tenant: Tenant, phase: float, runs: int, run_start: float) -> ContainerState:
    age, gone = phase - tenant.start, phase >= tenant.end
    workload = tenant.workload
    leaked = workload.kind is WorkloadKind.LEAK
    state = ContainerState(tenant.container, (), restarts(workload, age), None)
    if not gone and running(workload, age):
        state = replace(state, pids=(pid_of(node, tenant, runs, age),))
    ended = last_end(workload, age)
    if ended is not None:
        at = run_start + tenant.start + ended
        return replace(state, last_end=at, last_exit_code=1, last_message=OUT_OF_MEMORY)
    if gone and not leaked:
        return replace(state, last_end=run_start + tenant.end, last_exit_code=0)
    return state
