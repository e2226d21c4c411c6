"""A job's processes fail together: the first failure is found, and the others follow it."""

from dataclasses import dataclass, field, replace

import pytest

from exporter.model.claims import Container, PodName
from exporter.model.clocks import UnixSeconds
from exporter.model.ends import Cause, LastWords
from exporter.model.oom import Confidence
from exporter.model.pods import PodRecord, Termination
from exporter.model.verdicts import EndVerdict, FirstFailure
from exporter.sampling.judge import EndJudge
from exporter.sampling.memory_history import MemoryHistory
from tests.doubles.terminations import END, NOTHING, TOO_MUCH, ended, held

PEER = LastWords(Cause.PEER)


@dataclass
class Job:
    """Four pods on one node, with a GPU each."""

    kind: str = "PyTorchJob"
    judge: EndJudge = field(init=False)
    pods: dict[PodName, PodRecord] = field(init=False)

    def __post_init__(self) -> None:
        self.judge = EndJudge(MemoryHistory(), UnixSeconds(END - 1000), grace_seconds=60.0)
        self.pods = {
            PodName("ml", f"bert-{rank}"): PodRecord(
                f"uid-{rank}", "ml", f"bert-{rank}", self.kind, "bert"
            )
            for rank in range(4)
        }
        allocations = [held(self.container(rank), on=rank) for rank in range(4)]
        self.judge.set_allocations(allocations, self.pods, UnixSeconds(END - 600))

    def container(self, rank: int) -> Container:
        return Container("ml", f"bert-{rank}", "main")

    def ends(
        self,
        rank: int,
        words: LastWords,
        at: float = END,
        exit_code: int = 1,
        started_at: float = END - 3600,
    ) -> None:
        termination: Termination = replace(
            ended(exit_code, words, started_at=UnixSeconds(started_at)),
            container=self.container(rank),
            pod_uid=f"uid-{rank}",
            finished_at=UnixSeconds(at),
        )
        self.judge.terminated(termination)

    def step(self, now: float) -> dict[str, EndVerdict]:
        return {
            found.verdict.termination.container.pod: found.verdict
            for found in self.judge.step(UnixSeconds(now))
        }


def test_followers_are_attributed_to_the_first_failure() -> None:
    job = Job()
    for rank in (0, 1, 3):
        job.ends(rank, PEER, END + 1)
    job.ends(2, TOO_MUCH)
    found = job.step(END + 5)
    first = FirstFailure(job.container(2), Cause.GPU_OOM)
    assert {name: (each.cause, each.first) for name, each in found.items()} == {
        "bert-0": (Cause.PEER, first),
        "bert-1": (Cause.PEER, first),
        "bert-2": (Cause.GPU_OOM, None),
        "bert-3": (Cause.PEER, first),
    }
    assert found["bert-0"].confidence is Confidence.CONFIRMED


def test_a_follower_waits_for_the_report_of_the_first_failure() -> None:
    job = Job()
    job.ends(0, PEER)
    assert job.step(END + 10) == {}
    job.ends(1, TOO_MUCH, END - 2)
    found = job.step(END + 12)
    assert found["bert-0"].first == FirstFailure(job.container(1), Cause.GPU_OOM)


def test_a_follower_whose_first_failure_is_on_another_node_is_likely_after_a_while() -> None:
    job = Job()
    job.ends(0, PEER)
    assert job.step(END + 20) == {}
    found = job.step(END + 21)
    assert (found["bert-0"].cause, found["bert-0"].confidence) == (Cause.PEER, Confidence.LIKELY)
    assert found["bert-0"].first is None


def test_the_earliest_failure_is_the_first() -> None:
    job = Job()
    job.ends(0, TOO_MUCH, END - 30)
    job.ends(1, LastWords(Cause.PROGRAM), END - 20)
    job.ends(2, PEER)
    assert job.step(END + 5)["bert-2"].first == FirstFailure(job.container(0), Cause.GPU_OOM)


@pytest.mark.parametrize("words", [PEER, NOTHING])
def test_a_peer_and_what_nobody_knows_are_no_first_failure(words: LastWords) -> None:
    job = Job()
    job.ends(0, words, END - 30, exit_code=137 if words is NOTHING else 1)
    job.ends(1, PEER)
    assert job.step(END + 25)["bert-1"].first is None


def test_a_failure_of_hours_ago_is_forgotten() -> None:
    job = Job()
    job.ends(0, TOO_MUCH, END - 500)
    job.step(END - 490)
    job.ends(1, PEER, END + 1400)
    assert job.step(END + 1430)["bert-1"].first is None


def test_a_later_try_of_the_job_does_not_follow_an_earlier_one() -> None:
    job = Job()
    job.ends(0, TOO_MUCH, END - 100)
    job.step(END - 90)
    job.ends(1, PEER, started_at=END - 60)
    assert job.step(END + 25)["bert-1"].first is None


@pytest.mark.parametrize("kind", ["Deployment", "Pod", "DaemonSet"])
def test_replicas_of_a_server_do_not_fail_together(kind: str) -> None:
    job = Job(kind)
    job.ends(0, TOO_MUCH)
    job.ends(1, PEER, END + 1)
    assert job.step(END + 25)["bert-1"].first is None


def test_ends_are_counted_by_cause() -> None:
    job = Job()
    job.ends(0, TOO_MUCH)
    job.ends(1, PEER, END + 1)
    job.step(END + 5)
    assert job.judge.ends == {
        job.container(0): {(Cause.GPU_OOM, Confidence.CONFIRMED): 1},
        job.container(1): {(Cause.PEER, Confidence.CONFIRMED): 1},
        job.container(2): {},
        job.container(3): {},
    }
