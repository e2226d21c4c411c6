"""Why containers end: each rule by a story, and what must hold for any evidence."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution import oom
from exporter.attribution.causes import RULES, is_hardware, judge
from exporter.model.claims import Container
from exporter.model.ends import IN_WORDS, RESPONSIBLE, Cause, LastWords, Responsible
from exporter.model.oom import DeviceEvidence, OomEvidence
from exporter.model.pods import Termination
from exporter.model.verdicts import EndEvidence, FirstFailure
from exporter.model.xids import ACTIONS
from tests.doubles.terminations import (
    BARE,
    BOARD,
    CONFIRMED,
    EARLIER,
    HOST,
    LIKELY,
    NOTHING,
    POSSIBLE,
    TOO_MUCH,
    WORDS,
    ended,
)

LOW = DeviceEvidence("GPU-0", limit_bytes=BOARD, peak_bytes=BOARD // 100, rise_bytes=0)
FILLED = DeviceEvidence("GPU-0", limit_bytes=BOARD, peak_bytes=BOARD, rise_bytes=BOARD)
UNREAD = DeviceEvidence("GPU-0")
FIRST = FirstFailure(Container("ml", "train-0", "main"), Cause.GPU_OOM)


def says(cause: Cause, *, sure: bool = True, **more: bool) -> LastWords:
    return LastWords(cause, sure=sure, **more)


@dataclass(frozen=True)
class Case:
    """How a container ended, and what that must be taken for."""

    story: str
    cause: Cause
    confidence: str
    termination: Termination
    device: DeviceEvidence = LOW
    xids: frozenset[int] = frozenset()
    own_xids: frozenset[int] = frozenset()
    exclusive: bool = True
    gpu_lost: bool = False
    first: FirstFailure | None = None
    rule: str = field(default="", compare=False)

    @property
    def evidence(self) -> EndEvidence:
        memory = OomEvidence(self.termination, (self.device,), self.xids)
        return EndEvidence(
            memory=memory,
            oom=oom.judge(memory),
            own_xids=self.own_xids,
            exclusive=self.exclusive,
            gpu_lost=self.gpu_lost,
            first=self.first,
        )


def case(
    story: str,
    cause: Cause,
    confidence: str,
    termination: Termination,
    *,
    xids: Iterable[int] = (),
    own_xids: Iterable[int] = (),
    **more: object,
) -> Case:
    sets = {"xids": frozenset(xids), "own_xids": frozenset(own_xids)}
    return Case(story, cause, confidence, termination, **sets, **more)  # type: ignore[arg-type]


def start_error(words: LastWords) -> Termination:
    return ended(128, words, "StartError")


def unmounted(exit_code: int, words: LastWords = NOTHING) -> Termination:
    return ended(exit_code, words, has_shm=False)


CASES = (
    # The actor's own word
    case("evicted", Cause.EVICTED, CONFIRMED, ended(137, reason="Evicted", actor=Cause.EVICTED)),
    case("preempted", Cause.PREEMPTED, CONFIRMED, ended(143, actor=Cause.PREEMPTED)),
    case("a spot node goes", Cause.PREEMPTED, CONFIRMED, ended(0, actor=Cause.PREEMPTED)),
    case("the deadline passed", Cause.DEADLINE, CONFIRMED, ended(137, actor=Cause.DEADLINE)),
    case("evicted with words", Cause.EVICTED, CONFIRMED, ended(1, TOO_MUCH, actor=Cause.EVICTED)),
    case("deleted, and it stops", Cause.STOPPED, CONFIRMED, ended(143, actor=Cause.STOPPED)),
    case("deleted, and killed", Cause.STOPPED, CONFIRMED, ended(137, actor=Cause.STOPPED)),
    case(
        "deleted, and it says that its peers went",
        Cause.STOPPED,
        CONFIRMED,
        ended(1, says(Cause.PEER), actor=Cause.STOPPED),
    ),
    case(
        "deleted after it ran out of memory",
        Cause.GPU_OOM,
        CONFIRMED,
        ended(1, TOO_MUCH, actor=Cause.STOPPED),
    ),
    case("exit code 0", Cause.COMPLETED, CONFIRMED, ended(0)),
    case("exit code 0 after words", Cause.COMPLETED, CONFIRMED, ended(0, WORDS)),
    # Host memory
    case("OOMKilled", Cause.HOST_OOM, CONFIRMED, ended(137, reason="OOMKilled")),
    case(
        "OOMKilled, and a child was killed",
        Cause.HOST_OOM,
        CONFIRMED,
        ended(1, says(Cause.HOST_OOM, sure=False, child_killed=True), "OOMKilled"),
    ),
    case("OOMKilled of long ago", Cause.HOST_OOM, POSSIBLE, ended(143, reason="OOMKilled")),
    case(
        "a child was killed", Cause.HOST_OOM, POSSIBLE, ended(1, says(Cause.HOST_OOM, sure=False))
    ),
    case("MemoryError", Cause.HOST_OOM, LIKELY, ended(1, HOST)),
    # It never ran
    case("the driver is too old", Cause.DRIVER, CONFIRMED, start_error(says(Cause.DRIVER))),
    case("no CDI device", Cause.RUNTIME, CONFIRMED, start_error(says(Cause.RUNTIME))),
    case("no such command", Cause.CONFIG, CONFIRMED, start_error(says(Cause.CONFIG))),
    case("it could not start", Cause.RUNTIME, POSSIBLE, start_error(NOTHING)),
    # GPU memory
    case("it asked for too much", Cause.GPU_OOM, CONFIRMED, ended(1, TOO_MUCH)),
    case("a fill without a word", Cause.GPU_OOM, LIKELY, ended(1), device=FILLED),
    case("CUDA's one code", Cause.GPU_OOM, LIKELY, ended(1, BARE)),
    case("words, then killed", Cause.GPU_OOM, POSSIBLE, ended(137, WORDS)),
    case("words of long ago", Cause.PROGRAM, LIKELY, ended(1, EARLIER)),
    case(
        "nearly full, and nothing else",
        Cause.GPU_OOM,
        POSSIBLE,
        ended(1),
        device=replace(FILLED, rise_bytes=0),
    ),
    # The hardware
    case("XID 79 names it", Cause.HARDWARE, CONFIRMED, ended(1), own_xids=[79], exclusive=False),
    case(
        "ECC words and XID 94", Cause.HARDWARE, CONFIRMED, ended(1, says(Cause.HARDWARE)), xids=[94]
    ),
    case("ECC words alone", Cause.HARDWARE, LIKELY, ended(1, says(Cause.HARDWARE))),
    case("XID 95 without words", Cause.HARDWARE, LIKELY, ended(1), xids=[95]),
    case("the GPU is lost", Cause.HARDWARE, LIKELY, ended(1), gpu_lost=True),
    case("lost, and XID 79", Cause.HARDWARE, CONFIRMED, ended(1), gpu_lost=True, xids=[79]),
    case("NVLink took its peers", Cause.HARDWARE, LIKELY, ended(134, says(Cause.PEER)), xids=[145]),
    case("XID 48 on a shared GPU", Cause.HARDWARE, POSSIBLE, ended(1), xids=[48], exclusive=False),
    case("XID 43 and 45 say nothing", Cause.UNKNOWN, POSSIBLE, ended(1), xids=[43, 45, 63, 154]),
    # The program's kernels
    case(
        "an illegal access", Cause.GPU_FAULT, CONFIRMED, ended(1, says(Cause.GPU_FAULT)), xids=[31]
    ),
    case(
        "the same, of its pid",
        Cause.GPU_FAULT,
        CONFIRMED,
        ended(1, says(Cause.GPU_FAULT)),
        own_xids=[13],
        exclusive=False,
    ),
    case("an assertion", Cause.GPU_FAULT, LIKELY, ended(1, says(Cause.GPU_FAULT)), xids=[43]),
    case("XID 13 without words", Cause.GPU_FAULT, LIKELY, ended(1), xids=[13]),
    case("XID 31 on a shared GPU", Cause.GPU_FAULT, POSSIBLE, ended(1), xids=[31], exclusive=False),
    case("XID 8", Cause.GPU_FAULT, POSSIBLE, ended(1), xids=[8]),
    # The node
    case("shared memory, 64 MiB", Cause.SHM, CONFIRMED, unmounted(1, says(Cause.SHM))),
    case("shared memory, mounted", Cause.SHM, LIKELY, ended(1, says(Cause.SHM))),
    case("a bus error, 64 MiB", Cause.SHM, LIKELY, unmounted(135)),
    case(
        "a bus error in words, 64 MiB", Cause.SHM, LIKELY, unmounted(1, says(Cause.SHM, sure=False))
    ),
    case("a bus error, mounted", Cause.SHM, POSSIBLE, ended(135)),
    case("no libcuda", Cause.RUNTIME, CONFIRMED, ended(1, says(Cause.RUNTIME))),
    case(
        "no libcuda, and no driver",
        Cause.RUNTIME,
        LIKELY,
        ended(1, says(Cause.RUNTIME)),
        device=UNREAD,
    ),
    case("error 35", Cause.DRIVER, POSSIBLE, ended(1, says(Cause.DRIVER, sure=False))),
    case("no device", Cause.NO_DEVICE, LIKELY, ended(1, says(Cause.NO_DEVICE))),
    case("error 802", Cause.FABRIC, LIKELY, ended(1, says(Cause.FABRIC))),
    # The job
    case("a peer went first", Cause.PEER, CONFIRMED, ended(134, says(Cause.PEER)), first=FIRST),
    case("a peer went", Cause.PEER, LIKELY, ended(134, says(Cause.PEER))),
    case(
        "a first failure of its own",
        Cause.PROGRAM,
        LIKELY,
        ended(1, says(Cause.PROGRAM)),
        first=FIRST,
    ),
    # The rest
    case("no space", Cause.STORAGE, POSSIBLE, ended(1, says(Cause.STORAGE, sure=False))),
    case("a KV cache too small", Cause.CONFIG, LIKELY, ended(1, says(Cause.CONFIG))),
    case("no kernel image", Cause.SOFTWARE, LIKELY, ended(1, says(Cause.SOFTWARE))),
    case("a gated model", Cause.HUB, LIKELY, ended(1, says(Cause.HUB))),
    case("a KeyError", Cause.PROGRAM, LIKELY, ended(1, says(Cause.PROGRAM))),
    case("a corrupted heap", Cause.CRASH, LIKELY, ended(134, says(Cause.CRASH))),
    case("a segmentation fault", Cause.CRASH, POSSIBLE, ended(139)),
    case("the shell finds no command", Cause.CONFIG, POSSIBLE, ended(127)),
    case("killed by nobody known", Cause.UNKNOWN, POSSIBLE, ended(137)),
    case("stopped by nobody known", Cause.UNKNOWN, POSSIBLE, ended(143)),
    case("killed after a KeyError", Cause.UNKNOWN, POSSIBLE, ended(137, says(Cause.PROGRAM))),
    case("killed after ECC words", Cause.HARDWARE, POSSIBLE, ended(137, says(Cause.HARDWARE))),
    case("exit code 1, and nothing else", Cause.UNKNOWN, POSSIBLE, ended(1)),
)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.story)
def test_the_cause_of(each: Case) -> None:
    verdict = judge(each.evidence)
    assert (verdict.cause, verdict.confidence) == (each.cause, each.confidence), verdict.rule


def test_every_rule_decides_some_case() -> None:
    assert {judge(each.evidence).rule for each in CASES} == {rule.name for rule in RULES}


def test_a_follower_names_the_first_failure() -> None:
    [peer] = [each for each in CASES if each.story == "a peer went first"]
    assert judge(peer.evidence).first == FIRST


def test_every_cause_has_somebody_and_words() -> None:
    assert RESPONSIBLE.keys() == IN_WORDS.keys() == set(Cause)
    assert {RESPONSIBLE[cause] for cause in Cause} == set(Responsible)


@pytest.mark.parametrize("xid", [43, 45, 63, 92, 154, 13, 31, 8])
def test_an_xid_that_follows_or_records_is_no_hardware_fault(xid: int) -> None:
    assert not is_hardware(xid)


def test_xids_that_take_the_gpu_are_hardware_faults() -> None:
    assert all(is_hardware(xid) for xid in (48, 62, 64, 74, 79, 94, 95, 119, 120, 140, 144, 150))
    assert all(is_hardware(xid) for xid, action in ACTIONS.items() if action == "reset_gpu")


words = st.builds(
    LastWords,
    blames=st.none() | st.sampled_from(Cause),
    sure=st.booleans(),
    gpu_oom_before=st.booleans(),
    child_killed=st.booleans(),
)
terminations = st.builds(
    ended,
    exit_code=st.sampled_from([0, 1, 2, 126, 127, 128, 130, 134, 135, 137, 139, 143, 255]),
    says=words,
    reason=st.sampled_from(["Error", "OOMKilled", "StartError", "Evicted"]) | st.text(max_size=4),
    actor=st.none() | st.sampled_from([Cause.EVICTED, Cause.STOPPED, Cause.DEADLINE]),
    has_shm=st.booleans(),
)
xids = st.frozensets(st.sampled_from([8, 13, 31, 43, 45, 63, 79, 94, 154, 9999]), max_size=2)
cases = st.builds(
    Case,
    story=st.just("any"),
    cause=st.just(Cause.UNKNOWN),
    confidence=st.just(POSSIBLE),
    termination=terminations,
    device=st.sampled_from([LOW, FILLED, UNREAD]),
    xids=xids,
    own_xids=xids,
    exclusive=st.booleans(),
    gpu_lost=st.booleans(),
    first=st.none() | st.just(FIRST),
)


@given(cases)
def test_any_evidence_gets_one_cause(any_case: Case) -> None:
    evidence = any_case.evidence
    verdict = judge(evidence)
    assert verdict.termination is any_case.termination
    assert verdict.oom is evidence.oom
    if verdict.cause is Cause.UNKNOWN:
        assert verdict.confidence is POSSIBLE


@given(cases)
def test_nothing_is_confirmed_by_words_alone(any_case: Case) -> None:
    """Take every independent fact away; then only GPU memory's own rules may confirm."""
    plain = replace(
        any_case,
        termination=replace(
            any_case.termination, reason="Error", actor=None, exit_code=1, has_shm=True
        ),
        device=UNREAD,
        xids=frozenset(),
        own_xids=frozenset(),
        gpu_lost=False,
        first=None,
    )
    verdict = judge(plain.evidence)
    assert verdict.confidence is not CONFIRMED or verdict.cause is Cause.GPU_OOM
