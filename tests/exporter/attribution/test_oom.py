"""Which ends of containers count as GPU out of memory, how surely, and that each counts once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.oom import RULES, host_oom, judge
from exporter.model.ends import Cause, LastWords
from exporter.model.oom import Confidence, DeviceEvidence, OomEvidence
from exporter.model.pods import Termination
from tests.doubles.scripted import GIB
from tests.doubles.terminations import (
    BARE,
    BOARD,
    CONFIRMED,
    EARLIER,
    ELSE,
    HOST,
    LIKELY,
    NOTHING,
    OTHER,
    POSSIBLE,
    SLICE,
    TOO_MUCH,
    WORDS,
    ended,
)
from tests.doubles.terminations import (
    EARLIER_RAISED as RAISED,
)


def device(
    percent: float | None, rose: float | None = 0.0, total: int = BOARD, uuid: str = "GPU-0"
) -> DeviceEvidence:
    if percent is None or rose is None:
        return DeviceEvidence(uuid)
    peak, rise = round(total * percent / 100), round(total * rose / 100)
    return DeviceEvidence(uuid, limit_bytes=total, peak_bytes=peak, rise_bytes=rise)


FILLED = device(99.2, rose=98.0)
STEADY = device(97.0, rose=0.1)
LOW = device(1.2, rose=1.2)
UNREAD = device(None)


CALL = LastWords(Cause.GPU_OOM, call_failed=True)
LIMITED = LastWords(Cause.GPU_OOM, asked_bytes=4 * GIB, own_limit=True)
FAULT = LastWords(Cause.GPU_FAULT)
SEGFAULT = LastWords(Cause.CRASH, sure=False)
HEAP = LastWords(Cause.CRASH)
MENTIONED = LastWords(Cause.GPU_OOM, mentioned=True)
MENTIONED_CODE = LastWords(Cause.GPU_OOM, sure=False, mentioned=True)
CHILD = LastWords(Cause.HOST_OOM, sure=False, child_killed=True)
WORDS_CHILD = LastWords(Cause.GPU_OOM, child_killed=True)


def asks(gibibytes: int, words: LastWords = WORDS) -> LastWords:
    return replace(words, asked_bytes=gibibytes * GIB)


HUGE = asks(200)


@dataclass(frozen=True)
class Case:
    """How a container ended, and the verdict that this must get."""

    story: str
    verdict: Confidence | None
    termination: Termination
    devices: tuple[DeviceEvidence, ...]
    xids: frozenset[int] = frozenset()


def case(
    story: str,
    verdict: Confidence | None,
    termination: Termination,
    *devices: DeviceEvidence,
    xids: Iterable[int] = (),
) -> Case:
    return Case(story, verdict, termination, devices, frozenset(xids))


# What frameworks print is read elsewhere; here it is read already. WORDS stand for PyTorch's
# OutOfMemoryError, XLA's RESOURCE_EXHAUSTED, TensorFlow's "OOM when allocating tensor", RMM's and
# CuPy's errors; BARE for CUDA_ERROR_OUT_OF_MEMORY and cudaErrorMemoryAllocation.
CASES = (
    # The framework's own words
    case("PyTorch fills the GPU and says so", CONFIRMED, ended(1, WORDS), FILLED),
    case("PyTorch asks for 200 GiB at once and says so", CONFIRMED, ended(1, TOO_MUCH), LOW),
    case("200 GiB, and the text does not say what was free", CONFIRMED, ended(1, HUGE), LOW),
    case("40 GiB would have fitted", LIKELY, ended(1, asks(40)), device(40, 0)),
    case("50 GiB would not", CONFIRMED, ended(1, asks(50)), device(40, 0)),
    case("words without an amount on an idle GPU", LIKELY, ended(1, WORDS), LOW),
    case("cuMemAlloc itself failed, for nobody knows how much", CONFIRMED, ended(1, CALL), LOW),
    case("cuMemAlloc failed for what would have fitted", LIKELY, ended(1, asks(1, CALL)), LOW),
    case("JAX, preallocated, at its limit", CONFIRMED, ended(1, LIMITED), device(75, 0)),
    case("TensorFlow aborts", CONFIRMED, ended(134, WORDS), STEADY),
    case("NCCL has no room for its buffers", CONFIRMED, ended(1, WORDS), device(93, 0.5)),
    case("a C++ program ends with its own code", CONFIRMED, ended(2, WORDS), FILLED),
    case("exit code 255 of a launcher", CONFIRMED, ended(255, WORDS), FILLED),
    case("words and a segfault while unwinding", CONFIRMED, ended(139, WORDS), FILLED),
    case("words, but the GPU was not read", CONFIRMED, ended(1, WORDS), UNREAD),
    case("words, and the abort's own XID 43", CONFIRMED, ended(1, WORDS), FILLED, xids=[43]),
    case("words, and the clean-up's XID 45", CONFIRMED, ended(1, WORDS), FILLED, xids=[45]),
    case("words, and a row was remapped", CONFIRMED, ended(1, WORDS), FILLED, xids=[63]),
    case("words, and XID 31 beside them", POSSIBLE, ended(1, WORDS), FILLED, xids=[31]),
    case("words, then killed by its liveness probe", POSSIBLE, ended(137, WORDS), FILLED),
    case("a runtime that gives no reason", CONFIRMED, replace(ended(1, TOO_MUCH), reason=""), LOW),
    # Words that were said before an end that has another cause
    case("an OOM that was caught and retried", None, ended(0, WORDS), FILLED),
    case("caught, and later told to stop", None, ended(143, WORDS), FILLED),
    case("caught, and later out of host memory", None, ended(137, WORDS, "OOMKilled"), FILLED),
    case("caught, and later evicted", None, ended(137, WORDS, "Evicted"), FILLED),
    # The bare words
    case("bare words, the GPU full", CONFIRMED, ended(1, BARE), FILLED),
    case("bare words, a full preallocating server", LIKELY, ended(1, BARE), STEADY),
    case("bare words, 94 %", LIKELY, ended(1, BARE), device(94, 50)),
    case("bare words, one request for 200 GiB", LIKELY, ended(1, BARE), LOW),
    case("bare words, pinned memory in an idle pod", LIKELY, ended(1, BARE), device(0.6)),
    case("bare words, the GPU was not read", LIKELY, ended(1, BARE), UNREAD),
    case("bare words after exit 0", None, ended(0, BARE), FILLED),
    case("bare words, then SIGKILL", None, ended(137, BARE), FILLED),
    case("bare words and XID 13", None, ended(1, BARE), FILLED, xids=[13]),
    # Words that something else was said after
    case("a request failed, the server went on", POSSIBLE, ended(1, EARLIER), device(40, 0)),
    case("the same on a server that is always full", POSSIBLE, ended(1, EARLIER), STEADY),
    case("the same, and the GPU filled up", POSSIBLE, ended(1, EARLIER), FILLED),
    case("an exception before another, and it filled up", LIKELY, ended(1, RAISED), FILLED),
    case("the same, always full", POSSIBLE, ended(1, RAISED), STEADY),
    case("words that may be help that nobody knows", LIKELY, ended(1, MENTIONED), FILLED),
    case("the same, CUDA's one code", LIKELY, ended(1, MENTIONED_CODE), FILLED),
    case("the same, then killed", None, ended(137, EARLIER), FILLED),
    # It says that it failed of something else
    case("TensorFlow takes its memory, then a typo", POSSIBLE, ended(1, ELSE), FILLED),
    case("a typo on a server that is always full", None, ended(1, ELSE), STEADY),
    case("a typo on an idle GPU", None, ended(1, ELSE), LOW),
    case("an illegal access on a GPU that filled up", POSSIBLE, ended(1, FAULT), FILLED),
    case("a segfault that is said, too", LIKELY, ended(139, SEGFAULT), FILLED),
    case("a corrupted heap on a GPU that filled up", POSSIBLE, ended(134, HEAP), FILLED),
    case("a parent reports that its child was killed", None, ended(1, CHILD), FILLED),
    case("words, and another child was killed", POSSIBLE, ended(1, WORDS_CHILD), FILLED),
    # No words: memory alone
    case("PyTorch fills the GPU in a second, exit 1", LIKELY, ended(1), FILLED),
    case("a slow leak's last half minute", LIKELY, ended(1), device(99, 2.5)),
    case("an abort on a full GPU", LIKELY, ended(134), FILLED),
    case("a segfault on a full GPU: unchecked malloc", LIKELY, ended(139), FILLED),
    case("XID 43 and 45 follow an abort", LIKELY, ended(134), FILLED, xids=[43, 45]),
    case("94 % and rising", POSSIBLE, ended(1), device(94, 60)),
    case("exactly 90 %", POSSIBLE, ended(1), device(90, 0)),
    case("just under 90 %", None, ended(1), device(89.9, 60)),
    case("a preallocating server's crash", POSSIBLE, ended(1), STEADY),
    case("a preallocating server's clean exit", None, ended(0), STEADY),
    case("a preallocating server is rolled out", None, ended(143), STEADY),
    case("PyTorch asks for 200 GiB at once, no words", None, ended(1), LOW),
    case("exit 1 with low memory", None, ended(1), device(12, 3)),
    case("exit 1, the GPU was not read", None, ended(1), UNREAD),
    case("a segfault with low memory", None, ended(139), device(30, 1)),
    case("command not found", None, ended(127), device(0, 0)),
    # What rules it out
    case("host OOM on a full GPU", None, ended(137, NOTHING, "OOMKilled"), FILLED),
    case("host OOM of a child", None, ended(1, NOTHING, "OOMKilled"), FILLED),
    case("host OOM of a child, the job went on", None, ended(0, NOTHING, "OOMKilled"), FILLED),
    case("evicted on a full GPU", None, ended(1, NOTHING, "Evicted"), FILLED),
    case("preempted", None, ended(1, NOTHING, "Preempting"), FILLED),
    case("the node lost track of it", None, ended(137, NOTHING, "ContainerStatusUnknown"), FILLED),
    case("could not be started", None, ended(128, NOTHING, "StartError"), FILLED),
    case("SIGTERM on a full GPU", None, ended(143), FILLED),
    case("SIGINT as stop signal", None, ended(130), FILLED),
    case("SIGKILL without OOMKilled", None, ended(137), FILLED),
    case("Java's heap on a full GPU", None, ended(1, HOST), FILLED),
    case("Ray's memory monitor", None, ended(1, HOST), LOW),
    case("XID 31: a bad address", None, ended(188), LOW, xids=[31]),
    case("XID 31 on a full GPU", None, ended(1), FILLED, xids=[31]),
    case("XID 13 on a full GPU", None, ended(1), FILLED, xids=[13]),
    case("XID 94, the ECC error that kills", None, ended(1), FILLED, xids=[94]),
    case("XID 79, the GPU fell off the bus", None, ended(1), FILLED, xids=[79]),
    case("XID 31 and the 45 after it", None, ended(1), FILLED, xids=[31, 45]),
    case("an XID younger than the catalogue", None, ended(1), FILLED, xids=[9999]),
    # Slices, shared GPUs, several devices
    case("a MIG slice fills", LIKELY, ended(1), device(98, 90, total=SLICE, uuid="MIG-1")),
    case("a tenth of a board in use", None, ended(1), device(12, 12)),
    case("the neighbour held the memory", POSSIBLE, ended(1), device(99, 1)),
    case("the neighbour held it, with words", CONFIRMED, ended(1, WORDS), device(99, 1)),
    case("one of two GPUs filled", LIKELY, ended(1), device(40), device(99, 60, uuid="GPU-1")),
    case("neither of two GPUs filled", None, ended(1), device(40), device(41, 1, uuid="GPU-1")),
    case("it held no device", None, ended(1, WORDS)),
)


def evidence(of: Case) -> OomEvidence:
    return OomEvidence(of.termination, of.devices, of.xids)


@pytest.mark.parametrize("each", CASES, ids=lambda each: each.story)
def test_the_verdict_on(each: Case) -> None:
    verdict = judge(evidence(each))
    assert (verdict.confidence if verdict else None) == each.verdict


def test_every_rule_decides_some_case() -> None:
    deciding = {
        next(
            (rule.name for rule in RULES if any(rule.holds(evidence(c), d) for d in c.devices)),
            None,
        )
        for c in CASES
    }
    assert deciding >= {rule.name for rule in RULES}


def test_the_device_that_filled_is_named_before_one_that_is_always_full() -> None:
    always_full, filled = device(98.5, 0, uuid="GPU-0"), device(96, 80, uuid="GPU-1")
    for says in (NOTHING, WORDS, BARE):
        verdict = judge(OomEvidence(ended(1, says), (always_full, filled)))
        assert verdict is not None
        assert verdict.device_uuid == "GPU-1"


def test_the_verdict_says_who_else_held_memory() -> None:
    full = replace(device(99, 1), cotenant_bytes={OTHER: 70 * GIB})
    verdict = judge(OomEvidence(ended(1, WORDS), (full,)))
    assert verdict is not None
    assert verdict.cotenant_bytes == {OTHER: 70 * GIB}
    assert (verdict.peak_bytes, verdict.limit_bytes) == (full.peak_bytes, BOARD)
    assert verdict.rule == "device_words"


@pytest.mark.parametrize(
    ("termination", "is_host"),
    [
        (ended(137, NOTHING, "OOMKilled"), True),
        (ended(1, NOTHING, "OOMKilled"), True),
        (ended(137), False),
        (ended(1, HOST), False),
        (ended(137, NOTHING, "Evicted"), False),
    ],
)
def test_host_oom_is_the_runtimes_word(termination: Termination, *, is_host: bool) -> None:
    assert host_oom(termination) is is_host


byte_counts = st.none() | st.integers(0, 2 * BOARD)
devices = st.builds(
    DeviceEvidence,
    uuid=st.sampled_from(["GPU-0", "GPU-1", "MIG-1"]),
    limit_bytes=byte_counts,
    peak_bytes=byte_counts,
    rise_bytes=byte_counts,
)
terminations = st.builds(
    ended,
    exit_code=st.sampled_from([0, 1, 2, 127, 130, 134, 137, 139, 143, 188]) | st.integers(),
    says=st.builds(
        LastWords,
        blames=st.none() | st.sampled_from(Cause),
        sure=st.booleans(),
        gpu_oom_before=st.booleans(),
        child_killed=st.booleans(),
        asked_bytes=st.none() | st.integers(0, 2 * BOARD),
        free_bytes=st.none() | st.integers(0, 2 * BOARD),
        own_limit=st.booleans(),
        raised_before=st.booleans(),
        mentioned=st.booleans(),
        call_failed=st.booleans(),
    ),
    reason=st.sampled_from(["Error", "OOMKilled", "Evicted", "Completed"]) | st.text(max_size=5),
)
all_evidence = st.builds(
    OomEvidence,
    termination=terminations,
    devices=st.lists(devices, max_size=3).map(tuple),
    xids=st.frozensets(st.sampled_from([13, 31, 43, 45, 63, 79, 94, 154, 9999]), max_size=2),
)
SURENESS = {None: 0, POSSIBLE: 1, LIKELY: 2, CONFIRMED: 3}


def sureness(of: OomEvidence) -> int:
    verdict = judge(of)
    return SURENESS[verdict.confidence if verdict else None]


@given(all_evidence)
def test_any_evidence_gets_an_answer(any_evidence: OomEvidence) -> None:
    verdict = judge(any_evidence)
    if verdict:
        assert verdict.device_uuid in {d.uuid for d in any_evidence.devices}
        assert verdict.termination is any_evidence.termination


@given(
    all_evidence,
    st.sampled_from([{"exit_code": 0}, {"exit_code": 143}, {"reason": "OOMKilled"}])
    | st.just({"reason": "Evicted"}),
)
def test_other_causes_are_never_an_oom(
    any_evidence: OomEvidence, cause: Mapping[str, object]
) -> None:
    termination = replace(any_evidence.termination, **cause)  # type: ignore[arg-type]
    assert judge(replace(any_evidence, termination=termination)) is None


@given(all_evidence, st.integers(0, BOARD))
def test_a_higher_peak_is_never_less_sure(any_evidence: OomEvidence, more: int) -> None:
    higher = tuple(
        replace(d, peak_bytes=(d.peak_bytes or 0) + more, rise_bytes=(d.rise_bytes or 0) + more)
        for d in any_evidence.devices
    )
    assert sureness(replace(any_evidence, devices=higher)) >= sureness(any_evidence)
