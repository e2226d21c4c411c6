"""Ends of containers, and a judge of them, with all that it is told in the test's hands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.model.claims import Allocation, Container, Sharing
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Slice
from exporter.model.ends import NO_WORDS, Cause, LastWords
from exporter.model.oom import Confidence, OomVerdict
from exporter.model.pods import PodRecord, Termination
from exporter.model.readings import Memory
from exporter.sampling.judge import EndJudge
from exporter.sampling.memory_history import MemoryHistory
from tests.doubles.scripted import GIB, MIG_GPU, gpu

CONFIRMED, LIKELY, POSSIBLE = Confidence.CONFIRMED, Confidence.LIKELY, Confidence.POSSIBLE
NOTHING = NO_WORDS
WORDS = LastWords(Cause.GPU_OOM)
"""Words for the device's memory, without amounts."""
TOO_MUCH = LastWords(Cause.GPU_OOM, asked_bytes=200 * GIB, free_bytes=70 * GIB)
"""PyTorch's sentence after one request that is too large for any GPU."""
BARE = LastWords(Cause.GPU_OOM, sure=False)
"""CUDA's one code for device memory and for pinned memory of the host."""
HOST = LastWords(Cause.HOST_OOM)
ELSE = LastWords(Cause.PROGRAM)
EARLIER = LastWords(Cause.PROGRAM, gpu_oom_before=True)
EARLIER_RAISED = LastWords(Cause.PROGRAM, gpu_oom_before=True, raised_before=True)
BOARD = 80 * GIB
SLICE = 10 * GIB
TRAIN, OTHER = Container("ml", "train", "main"), Container("ml", "other", "main")
END = 1_800_000_000.0
NONE_YET = {"confirmed": 0, "likely": 0, "possible": 0}


def ended(
    exit_code: int = 1, says: LastWords = NOTHING, reason: str = "", **fields: object
) -> Termination:
    plain = Termination(
        container=TRAIN,
        pod_uid="uid-train",
        restart_count=0,
        exit_code=exit_code,
        reason=reason or ("Error" if exit_code else "Completed"),
        words=says,
        started_at=UnixSeconds(END - 3600),
        finished_at=UnixSeconds(END),
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def held(container: Container = TRAIN, *, on: int = 0, part: Slice | None = None) -> Allocation:
    board = MIG_GPU if part else gpu(on)
    kind = Sharing.MIG if part else Sharing.EXCLUSIVE
    return Allocation(container, "nvidia.com/gpu", kind, board, part)


@dataclass
class Node:
    """A judge beside its history, with one reading a second."""

    history: MemoryHistory = field(default_factory=MemoryHistory)
    since: float = END - 1000
    judge: EndJudge = field(init=False)

    def __post_init__(self) -> None:
        self.judge = EndJudge(self.history, UnixSeconds(self.since), grace_seconds=60.0)

    def hold(
        self, allocations: Iterable[Allocation], now: float = END - 600, uid: str | None = None
    ) -> None:
        """Take who holds what; ``uid`` is the pod's, if it is known."""
        record = PodRecord(uid, "ml", "train", "Pod", "train") if uid else None
        pods = {record.pod_name: record} if record else {}
        self.judge.set_allocations(allocations, pods, UnixSeconds(now))

    def step(self, now: float) -> tuple[OomVerdict, ...]:
        """Judge; return the verdicts on GPU memory."""
        found = [judgement.verdict.oom for judgement in self.judge.step(UnixSeconds(now))]
        return tuple(verdict for verdict in found if verdict)

    def read(
        self,
        *percents: float,
        until: float = END,
        uuid: str = gpu(0).uuid,
        total: int = BOARD,
        holders: Mapping[Container, int] | None = None,
    ) -> None:
        """Take a reading a second, the last one half a second before ``until``."""
        for number, percent in enumerate(percents):
            used = round(total * percent / 100)
            memory = Memory(total, used, total - used)
            self.history.add(
                uuid, memory, holders or {}, UnixSeconds(until + 0.5 + number - len(percents))
            )

    def events(self, container: Container = TRAIN, uuid: str = gpu(0).uuid) -> dict[str, int]:
        totals = self.judge.totals(container, uuid)
        assert totals is not None
        return {confidence.value: count for confidence, count in totals.events.items()}

    def last(self, container: Container = TRAIN, uuid: str = gpu(0).uuid) -> OomVerdict:
        totals = self.judge.totals(container, uuid)
        assert totals is not None
        assert totals.last is not None
        return totals.last
