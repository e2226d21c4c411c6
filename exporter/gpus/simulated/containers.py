"""What becomes of the simulated containers: their processes, restarts and ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.placement import Tenant
from exporter.gpus.simulated.processes import pid_of
from exporter.gpus.simulated.workloads import Workload, WorkloadKind, life, restarts, running
from exporter.model.claims import Container

OUT_OF_MEMORY: Final = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
    " capacity of 79.11 GiB of which 312.00 MiB is free."
)
_KILLED: Final = 128 + 9


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, as the container runtime reports it."""

    finished: float
    exit_code: int
    reason: str
    message: str = ""
    """The termination message."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container, from a start to an end."""

    number: int
    """The restarts before this run."""
    started: float
    end: End | None = None
    """``None``: the run goes on."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the API server would know about a container, and ``/proc`` about its processes."""

    container: Container
    pids: tuple[int, ...]
    """The pids on the host; none while the container is not running."""
    run: Run
    """The present run, or the last one."""
    before: Run | None
    """The run before that."""
    restarts: bool
    """Whether there will be another run after this one."""
    exempt: str = ""
    """The groups of alerts that its owner declines, separated by commas."""


def containers(
    node: Node, time: float, clock: Callable[[float], float] = float
) -> Sequence[ContainerState]:
    """Return the containers that have started in this run of the scenario, also ended ones.

    Containers that were deleted while they waited for a restart are left out. ``time`` is in
    scenario seconds. ``clock`` converts scenario seconds to the times in the result.
    """
    found: dict[Container, ContainerState] = {}
    states = (_state(node, tenant, time, clock) for tenant in node.tenants)
    for state in filter(None, states):
        other = found.get(state.container)
        # A container on several GPUs has a process on each.
        found[state.container] = replace(state, pids=other.pids + state.pids) if other else state
    return tuple(found.values())


def _state(
    node: Node, tenant: Tenant, time: float, clock: Callable[[float], float]
) -> ContainerState | None:
    """Return the state of a container on one device; ``None``: it is not there, or was deleted."""
    cycles, phase = node.cycle(time)
    if tenant.start > phase:
        return None
    workload, gone = tenant.workload, phase >= tenant.end
    age = min(phase, tenant.end) - tenant.start
    begin = time - phase + tenant.start

    def at(age: float) -> float:
        return clock(begin + age)

    number = _run_number(workload, age, gone=gone)
    run, again = _run(workload, number, age, at), workload.backoff is not None
    if gone and run.end is None:
        run = replace(run, end=End(at(age), exit_code=0, reason="Completed"))
    elif gone and again:
        return None
    runs_now = not gone and running(workload, age)
    return ContainerState(
        container=tenant.container,
        pids=(pid_of(node, tenant, cycles, age),) if runs_now else (),
        run=run,
        before=_run(workload, number - 1, age, at) if number else None,
        restarts=again and not gone,
        exempt=tenant.exempt,
    )


def _run_number(workload: Workload, age: float, *, gone: bool) -> int:
    """Return how many runs came before the present or last one."""
    if not gone:
        return restarts(workload, age)
    # No run begins at the moment at which the pod ends.
    return max(0, math.ceil(age / life(workload)) - 1) if workload.leaks else 0


def _run(workload: Workload, number: int, age: float, at: Callable[[float], float]) -> Run:
    """Return a run that has begun by ``age``."""
    if not workload.leaks:
        return Run(0, at(0.0))
    started = number * life(workload)
    finished = started + workload.period
    return Run(number, at(started), _end(workload, at(finished)) if finished <= age else None)


def _end(workload: Workload, finished: float) -> End:
    if workload.kind is WorkloadKind.HOST_LEAK:
        return End(finished, _KILLED, "OOMKilled")
    return End(finished, 1, "Error", "" if workload.silent else OUT_OF_MEMORY)
