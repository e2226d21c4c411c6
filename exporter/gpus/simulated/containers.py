"""The simulated containers' own fates: their processes, restarts and ends."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.processes import pid_of
from exporter.gpus.simulated.workloads import Workload, WorkloadKind, life, restarts, running
from exporter.model.claims import Container

OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"
    " capacity of 79.11 GiB of which 312.00 MiB is free."
)
_KILLED = 128 + 9


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended, as the container runtime tells it."""

    finished: float
    exit_code: int
    reason: str
    message: str = ""
    """The termination message."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a container, from a start to an end."""

    number: int
    """Restarts before it."""
    started: float
    end: End | None = None
    """``None``: it still runs."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the API server would know of a container, and ``/proc`` of its processes."""

    container: Container
    pids: tuple[int, ...]
    """The host's; none while the container is not running."""
    run: Run
    """The present one, or the last."""
    before: Run | None
    """The one before that."""
    restarts: bool
    """Whether there will be another run after this one."""
    exempt: str = ""
    """Of which alerts its owner wants none."""


def containers(
    node: Node, time: float, told: Callable[[float], float] = float
) -> Sequence[ContainerState]:
    """Return the containers that have started in this run of the scenario, also those that ended.

    But for those that were deleted while they waited for their restart. ``time`` is in scenario
    seconds; ``told`` makes of such what times are told in.
    """
    found: dict[Container, ContainerState] = {}
    for state in _states(node, time, told):
        other = found.get(state.container)
        # A container on several GPUs has a process on each.
        found[state.container] = replace(state, pids=other.pids + state.pids) if other else state
    return tuple(found.values())


def _states(node: Node, time: float, told: Callable[[float], float]) -> Iterator[ContainerState]:
    cycles, phase = node.cycle(time)
    for tenant in node.tenants:
        if tenant.start > phase:
            continue
        workload, gone = tenant.workload, phase >= tenant.end
        age = min(phase, tenant.end) - tenant.start
        begin = time - phase + tenant.start

        def at(age: float, begin: float = begin) -> float:
            return told(begin + age)

        if gone:  # a run does not begin as its pod ends
            number = max(0, math.ceil(age / life(workload)) - 1) if workload.leaks else 0
        else:
            number = restarts(workload, age)
        run, again = _run(workload, number, age, at), workload.backoff is not None
        if gone and run.end is None:
            run = replace(run, end=End(at(age), exit_code=0, reason="Completed"))
        elif gone and again:
            continue
        yield ContainerState(
            container=tenant.container,
            pids=() if gone or not running(workload, age) else (pid_of(node, tenant, cycles, age),),
            run=run,
            before=_run(workload, number - 1, age, at) if number else None,
            restarts=again and not gone,
            exempt=tenant.exempt,
        )


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
