"""Why a container ended: one table of rules over evidence, as for GPU memory in :mod:`.oom`.

The strongest evidence comes first: what the pod's status says of an actor, then what the device
reports, then the last exception, then the exit code. ``confirmed`` takes the actor's own word, or
words together with an independent fact. Two lines of one text are one fact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exporter.model.ends import Cause
from exporter.model.oom import Confidence
from exporter.model.verdicts import EndEvidence, EndVerdict
from exporter.model.xids import action

_CONFIRMED, _LIKELY, _POSSIBLE = Confidence
_SIGINT, _SIGABRT, _SIGBUS, _SIGKILL, _SIGSEGV, _SIGTERM = (
    128 + signal for signal in (2, 6, 7, 9, 11, 15)
)
_NEVER_RAN: Final = {"StartError", "ContainerCannotRun", "RunContainerError"}
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127

# What an XID says of the end, which is not what to do about it: NVIDIA's catalogue, and nverror.h
# of open-gpu-kernel-modules. 43 and 45 follow upon any process that dies; 63, 92 and 154 record.
FAULT_XIDS: Final = frozenset({13, 31})
_STOPPED_XID: Final = 8
_HARDWARE_XIDS: Final = frozenset({48, 62, 64, 74, 79, 94, 95, 119, 120, 140, *range(144, 151)})
_HARDWARE_ACTIONS: Final = {"reset_gpu", "restart_node"}


@dataclass(frozen=True, slots=True)
class Rule:
    """The end has ``cause`` with ``confidence`` if ``holds``.

    ``cause`` is ``None`` where the evidence names it: the last words, or the pod's status.
    """

    name: str
    cause: Cause | None
    confidence: Confidence
    why: str
    holds: Callable[[EndEvidence], bool]


def is_hardware(xid: int) -> bool:
    """Say whether an XID is a fault of the hardware, whatever the program does."""
    return xid in _HARDWARE_XIDS or (xid not in FAULT_XIDS and action(xid) in _HARDWARE_ACTIONS)


def _blames(evidence: EndEvidence, *causes: Cause, sure: bool | None = None) -> bool:
    words = evidence.termination.words
    return words.blames in causes and (sure is None or words.sure is sure)


def _exit(evidence: EndEvidence, *codes: int) -> bool:
    return evidence.termination.exit_code in codes


def _reason(evidence: EndEvidence, *reasons: str) -> bool:
    return evidence.termination.reason in reasons


def _signalled(evidence: EndEvidence) -> bool:
    """Whether somebody ended it with a signal, and not the kernel for want of host memory."""
    return _exit(evidence, _SIGINT, _SIGKILL, _SIGTERM) and not _reason(evidence, "OOMKilled")


def _oom(evidence: EndEvidence, confidence: Confidence) -> bool:
    return evidence.oom is not None and evidence.oom.confidence is confidence


def _own(evidence: EndEvidence, is_such: Callable[[int], bool]) -> bool:
    """Whether an XID names the container's process."""
    return any(map(is_such, evidence.own_xids))


def _near(evidence: EndEvidence, is_such: Callable[[int], bool]) -> bool:
    """Whether there was an XID on a GPU that nobody else had."""
    return evidence.exclusive and any(map(is_such, evidence.memory.xids))


def _any(evidence: EndEvidence, is_such: Callable[[int], bool]) -> bool:
    return any(map(is_such, evidence.memory.xids))


def _hardware_facts(evidence: EndEvidence) -> int:
    """Count the independent facts that speak for a fault of the hardware."""
    return sum(
        (
            _near(evidence, is_hardware),
            evidence.gpu_lost,
            _blames(evidence, Cause.HARDWARE),
        )
    )


def _is_fault(xid: int) -> bool:
    return xid in FAULT_XIDS


_CONCRETE: Final = (
    Cause.DRIVER,
    Cause.FABRIC,
    Cause.NO_DEVICE,
    Cause.RUNTIME,
    Cause.SHM,
    Cause.STORAGE,
    Cause.CONFIG,
    Cause.SOFTWARE,
    Cause.HUB,
    Cause.HOST_OOM,
    Cause.HARDWARE,
    Cause.GPU_FAULT,
)
_BY_WORDS: Final = (*_CONCRETE, Cause.PEER, Cause.CRASH, Cause.PROGRAM)

RULES = (
    # The actor's own word.
    Rule(
        "disturbed",
        None,
        _CONFIRMED,
        "The pod's status says who ended it: an eviction, a preemption, a deadline.",
        lambda e: e.termination.actor not in {None, Cause.STOPPED},
    ),
    Rule(
        "completed",
        Cause.COMPLETED,
        _CONFIRMED,
        "Exit code 0, whatever was printed before it.",
        lambda e: _exit(e, 0),
    ),
    Rule(
        "killed_for_host_memory",
        Cause.HOST_OOM,
        _CONFIRMED,
        "The runtime says OOMKilled, and the container itself was killed.",
        lambda e: _reason(e, "OOMKilled") and _exit(e, _SIGKILL),
    ),
    Rule(
        "child_killed_for_host_memory",
        Cause.HOST_OOM,
        _CONFIRMED,
        "The runtime says OOMKilled, and the container reports that its child was killed.",
        lambda e: (
            _reason(e, "OOMKilled")
            and (e.termination.words.child_killed or _blames(e, Cause.HOST_OOM))
        ),
    ),
    Rule(
        "never_started",
        None,
        _CONFIRMED,
        "It never ran, and the runtime says why.",
        lambda e: (
            _reason(e, *_NEVER_RAN)
            and _blames(e, Cause.DRIVER, Cause.RUNTIME, Cause.CONFIG, Cause.SOFTWARE)
        ),
    ),
    Rule(
        "never_started_for_no_known_reason",
        Cause.RUNTIME,
        _POSSIBLE,
        "It never ran.",
        lambda e: _reason(e, *_NEVER_RAN),
    ),
    # Words for GPU memory that the device's memory confirms.
    Rule(
        "gpu_memory_confirmed",
        Cause.GPU_OOM,
        _CONFIRMED,
        "The verdict on GPU memory is confirmed.",
        lambda e: _oom(e, _CONFIRMED),
    ),
    # The device's word.
    Rule(
        "hardware_of_its_own",
        Cause.HARDWARE,
        _CONFIRMED,
        "An XID for a hardware fault names its process.",
        lambda e: _own(e, is_hardware),
    ),
    Rule(
        "hardware_by_two_facts",
        Cause.HARDWARE,
        _CONFIRMED,
        "Two of: an XID on a GPU that nobody shares, a lost GPU, words.",
        lambda e: _hardware_facts(e) > 1,
    ),
    Rule(
        "fault_by_words_and_xid",
        Cause.GPU_FAULT,
        _CONFIRMED,
        "Words for a failed kernel, and the XID that goes with it.",
        lambda e: _blames(e, Cause.GPU_FAULT) and (_own(e, _is_fault) or _near(e, _is_fault)),
    ),
    Rule(
        "hardware_by_xid",
        Cause.HARDWARE,
        _LIKELY,
        "An XID for a hardware fault on a GPU that nobody shares.",
        lambda e: _near(e, is_hardware) or e.gpu_lost,
    ),
    # Words with a fact from another source.
    Rule(
        "stopped",
        Cause.STOPPED,
        _CONFIRMED,
        "Somebody deleted the pod before the end, and it ended as one does that is asked to.",
        lambda e: e.termination.actor is Cause.STOPPED and not _blames(e, *_CONCRETE),
    ),
    Rule(
        "peer_of_a_first_failure",
        Cause.PEER,
        _CONFIRMED,
        "Its words name a peer, and another process of the job failed before.",
        lambda e: _blames(e, Cause.PEER) and e.first is not None,
    ),
    Rule(
        "shm_without_a_mount",
        Cause.SHM,
        _CONFIRMED,
        "Words for shared memory, and the pod leaves it at the runtime's 64 MiB.",
        lambda e: _blames(e, Cause.SHM, sure=True) and not e.termination.has_shm,
    ),
    Rule(
        "bus_error_without_a_mount",
        Cause.SHM,
        _LIKELY,
        "A bus error is what a full /dev/shm gives, and it has the runtime's 64 MiB.",
        lambda e: (
            not e.termination.has_shm
            and (_blames(e, Cause.SHM) or (_exit(e, _SIGBUS) and _blames_nothing(e)))
        ),
    ),
    Rule(
        "runtime_while_the_driver_answers",
        Cause.RUNTIME,
        _CONFIRMED,
        "It misses the driver's library, while the driver answers the exporter.",
        lambda e: _blames(e, Cause.RUNTIME, sure=True) and e.driver_answered,
    ),
    Rule(
        "gpu_memory_likely",
        Cause.GPU_OOM,
        _LIKELY,
        "The verdict on GPU memory is likely.",
        lambda e: _oom(e, _LIKELY),
    ),
    # A signal from outside.
    Rule(
        "words_and_killed",
        None,
        _POSSIBLE,
        "The words name a cause, but a signal from outside ended it.",
        lambda e: _signalled(e) and _blames(e, *_CONCRETE),
    ),
    Rule(
        "gpu_memory_and_killed",
        Cause.GPU_OOM,
        _POSSIBLE,
        "A device allocation failed, but a signal from outside ended it.",
        lambda e: _signalled(e) and _oom(e, _POSSIBLE),
    ),
    Rule(
        "killed",
        Cause.UNKNOWN,
        _POSSIBLE,
        "SIGKILL, SIGTERM or SIGINT came from outside, and nothing says from whom.",
        _signalled,
    ),
    # Words alone.
    Rule(
        "words",
        None,
        _LIKELY,
        "The last exception names the cause, and nothing speaks against it.",
        lambda e: _blames(e, *_BY_WORDS, sure=True),
    ),
    Rule(
        "fault_by_xid",
        Cause.GPU_FAULT,
        _LIKELY,
        "Without a word, but an XID for a failed kernel names its process or its GPU.",
        lambda e: _own(e, _is_fault) or _near(e, _is_fault),
    ),
    # One plausible cause of several.
    Rule(
        "words_of_two_causes",
        None,
        _POSSIBLE,
        "Two causes have these words.",
        lambda e: _blames(e, *_BY_WORDS, sure=False),
    ),
    Rule(
        "host_memory_counted",
        Cause.HOST_OOM,
        _POSSIBLE,
        "The runtime says OOMKilled of any process that was killed since the container's start.",
        lambda e: _reason(e, "OOMKilled"),
    ),
    Rule(
        "hardware_on_a_shared_gpu",
        Cause.HARDWARE,
        _POSSIBLE,
        "An XID for a hardware fault on a GPU that others had, too.",
        lambda e: _any(e, is_hardware),
    ),
    Rule(
        "fault_on_a_shared_gpu",
        Cause.GPU_FAULT,
        _POSSIBLE,
        "An XID for a failed kernel on a GPU that others had, too; or a channel was stopped.",
        lambda e: _any(e, lambda xid: _is_fault(xid) or xid == _STOPPED_XID),
    ),
    Rule(
        "gpu_memory_possible",
        Cause.GPU_OOM,
        _POSSIBLE,
        "The verdict on GPU memory is possible.",
        lambda e: _oom(e, _POSSIBLE),
    ),
    Rule(
        "bus_error",
        Cause.SHM,
        _POSSIBLE,
        "A full /dev/shm gives a bus error, and so does a file that was cut.",
        lambda e: _exit(e, _SIGBUS),
    ),
    Rule(
        "crash",
        Cause.CRASH,
        _POSSIBLE,
        "A segmentation fault or an abort without words.",
        lambda e: _exit(e, _SIGSEGV, _SIGABRT),
    ),
    Rule(
        "no_such_command",
        Cause.CONFIG,
        _POSSIBLE,
        "A shell's exit codes for a command that it does not find or may not execute.",
        lambda e: _exit(e, _NOT_FOUND, _NOT_EXECUTABLE),
    ),
    Rule("nothing", Cause.UNKNOWN, _POSSIBLE, "Nothing says why.", lambda _: True),
)
"""In order. The first that holds decides, and the last one always holds."""


def judge(evidence: EndEvidence) -> EndVerdict:
    """Return why the container ended. Never raises."""
    rule = next(rule for rule in RULES if rule.holds(evidence))
    cause = rule.cause or _named(rule, evidence)
    return EndVerdict(
        termination=evidence.termination,
        cause=cause,
        confidence=rule.confidence,
        rule=rule.name,
        oom=evidence.oom,
        first=evidence.first if cause is Cause.PEER else None,
    )


def _blames_nothing(evidence: EndEvidence) -> bool:
    return evidence.termination.words.blames is None


def _named(rule: Rule, evidence: EndEvidence) -> Cause:
    termination = evidence.termination
    named = termination.actor if rule.name == "disturbed" else termination.words.blames
    return named or Cause.UNKNOWN
