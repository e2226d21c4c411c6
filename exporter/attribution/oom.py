"""Whether a container that ended had run out of GPU memory: one table of rules over evidence.

Neither NVML nor Kubernetes has an event for it. The driver refuses an allocation, the framework
prints words of its own, and the container ends with exit code 1 like after any other error.
"""

from collections.abc import Callable
from dataclasses import dataclass

from exporter.model.ends import Cause
from exporter.model.oom import Confidence, DeviceEvidence, OomEvidence, OomVerdict
from exporter.model.pods import Termination
from exporter.model.xids import action

FULL_RATIO = 0.95
"""From here on a device counts as full: gradual fills were seen to end at 0.99."""
NEARLY_FULL_RATIO = 0.90
ROSE_RATIO = 0.02
"""A rise by this part of the device within the window is growth. Servers that take their memory
beforehand stand still to within less, however full the device."""

# What runtimes say of an exit code that is not 0 and has no better-known cause.
_NO_OTHER_CAUSE = {"Error", ""}
_SIGINT, _SIGKILL, _SIGTERM = (128 + signal for signal in (2, 9, 15))
# XIDs that follow upon something else, or that nobody has to act on: a process that aborts leaves
# 43 and 45 behind, whatever it died of. Any other tells of a fault that ends processes by itself.
_HARMLESS_ACTIONS = {"ignore", "follow_up", "recovery_action"}


@dataclass(frozen=True, slots=True)
class Rule:
    """The answer is ``confidence`` if ``holds`` for a device of the container. ``None``: no OOM."""

    name: str
    confidence: Confidence | None
    why: str
    holds: Callable[[OomEvidence, DeviceEvidence], bool]


RULES = (
    Rule(
        "exited_well",
        None,
        "An OOM that was caught and retried is logged in full, and then the job ends with 0.",
        lambda evidence, _: evidence.termination.exit_code == 0,
    ),
    Rule(
        "other_cause",
        None,
        "OOMKilled is host memory; evicted, preempted and never started containers have a cause.",
        lambda evidence, _: evidence.termination.reason not in _NO_OTHER_CAUSE,
    ),
    Rule(
        "told_to_stop",
        None,
        "Somebody stopped it with SIGTERM, or with SIGINT, which some images have as stop signal.",
        lambda evidence, _: evidence.termination.exit_code in {_SIGTERM, _SIGINT},
    ),
    Rule(
        "host_memory_words",
        None,
        "It says itself that it was host memory.",
        lambda evidence, _: evidence.termination.words.blames is Cause.HOST_OOM,
    ),
    Rule(
        "device_words_in_doubt",
        Confidence.POSSIBLE,
        "A device allocation failed for certain, but it was killed later, or there was a fault.",
        lambda evidence, _: _device_words(evidence) and _ended_otherwise(evidence),
    ),
    Rule(
        "killed_or_faulted",
        None,
        "SIGKILL comes from outside, and a fault that has an XID ends a process by itself.",
        lambda evidence, _: _ended_otherwise(evidence),
    ),
    Rule(
        "device_words",
        Confidence.CONFIRMED,
        "Words for the device's memory, and its memory agrees: nearly full, or too full for what it"
        " asked for. One request can be so large that memory never rose.",
        lambda evidence, device: _device_words(evidence) and _agrees(evidence, device),
    ),
    Rule(
        "device_words_alone",
        Confidence.LIKELY,
        "Words for the device's memory, but there was room for what it asked for.",
        lambda evidence, _: _device_words(evidence),
    ),
    Rule(
        "cuda_words_and_filled_up",
        Confidence.CONFIRMED,
        "CUDA's one code could mean pinned host memory, but the device filled up just then.",
        lambda evidence, device: (
            _cuda_words(evidence)
            and _filled_up(device)
            and not evidence.termination.words.mentioned
        ),
    ),
    Rule(
        "cuda_words",
        Confidence.LIKELY,
        "Failed allocations of pinned host memory have CUDA's one code as well. That a device is"
        " full proves nothing: servers that take their memory beforehand always fill it.",
        lambda evidence, _: _cuda_words(evidence),
    ),
    Rule(
        "earlier_exception_and_filled_up",
        Confidence.LIKELY,
        "The device filled up, an allocation failed with an exception, and then another exception"
        " came. A line in a log is less: a server survives many of those.",
        lambda evidence, device: _earlier_exception(evidence) and _filled_up(device),
    ),
    Rule(
        "earlier_words",
        Confidence.POSSIBLE,
        "A device allocation failed, but the program went on, or died of something else.",
        lambda evidence, _: _earlier_words(evidence),
    ),
    Rule(
        "said_otherwise_and_filled_up",
        Confidence.POSSIBLE,
        "Memory rose until the device was full, but it says itself that it failed of something"
        " else: a program that takes its memory beforehand may fail of anything soon after.",
        lambda evidence, device: _said_otherwise(evidence) and _filled_up(device),
    ),
    Rule(
        "said_otherwise",
        None,
        "It says itself that it failed of something else.",
        lambda evidence, _: _said_otherwise(evidence),
    ),
    Rule(
        "filled_up",
        Confidence.LIKELY,
        "Without a word, but memory rose until the device was full, and then it failed.",
        lambda _, device: _filled_up(device),
    ),
    Rule(
        "nearly_full",
        Confidence.POSSIBLE,
        "Nothing speaks against it. Servers that take all memory beforehand always look like this.",
        lambda _, device: _reached(device, NEARLY_FULL_RATIO),
    ),
)
"""In order: what rules an OOM out, then the best evidence first. The first that holds decides."""


def judge(evidence: OomEvidence) -> OomVerdict | None:
    """Say how sure it is that the container ran out of GPU memory; ``None``: nothing says so.

    A higher peak never makes it less sure. Never raises.
    """
    devices = sorted(evidence.devices, key=_suspicion, reverse=True)
    for rule in RULES:
        for device in devices:
            if rule.holds(evidence, device):
                return _verdict(rule.name, rule.confidence, evidence, device)
    return None


def host_oom(termination: Termination) -> bool:
    """Say whether the kernel killed for want of host memory.

    By the runtime's word alone: a bare exit code 137 is any SIGKILL, and where only a child was
    killed the container ends with a code of its own.
    """
    return termination.reason == "OOMKilled"


def _device_words(evidence: OomEvidence) -> bool:
    words = evidence.termination.words
    return words.blames is Cause.GPU_OOM and words.sure


def _cuda_words(evidence: OomEvidence) -> bool:
    words = evidence.termination.words
    return words.blames is Cause.GPU_OOM and not words.sure


def _earlier_words(evidence: OomEvidence) -> bool:
    return evidence.termination.words.gpu_oom_before


def _earlier_exception(evidence: OomEvidence) -> bool:
    return evidence.termination.words.raised_before


def _said_otherwise(evidence: OomEvidence) -> bool:
    words = evidence.termination.words
    if words.blames is Cause.CRASH and not words.sure:
        return False  # a segmentation fault says no more than its exit code
    return words.blames not in {None, Cause.GPU_OOM}


def _agrees(evidence: OomEvidence, device: DeviceEvidence) -> bool:
    """Whether memory does not contradict words for the device's memory.

    Memory that was not read contradicts nothing. Neither does free memory where the allocator has
    a limit of its own, or where the driver refused a request whose size nobody says.
    """
    words = evidence.termination.words
    if words.mentioned:
        return words.did_not_fit
    if device.peak_bytes is None or not device.limit_bytes:
        return True
    if words.own_limit or words.did_not_fit or _reached(device, NEARLY_FULL_RATIO):
        return True
    if words.asked_bytes is None:
        return words.call_failed
    return words.asked_bytes > device.limit_bytes - device.peak_bytes


def _ended_otherwise(evidence: OomEvidence) -> bool:
    termination = evidence.termination
    killed = termination.exit_code == _SIGKILL or termination.words.child_killed
    return killed or any(action(xid) not in _HARMLESS_ACTIONS for xid in evidence.xids)


def _ratio(part_bytes: int | None, device: DeviceEvidence) -> float:
    return part_bytes / device.limit_bytes if part_bytes and device.limit_bytes else 0.0


def _reached(device: DeviceEvidence, ratio: float) -> bool:
    return _ratio(device.peak_bytes, device) >= ratio


def _filled_up(device: DeviceEvidence) -> bool:
    return _reached(device, FULL_RATIO) and _ratio(device.rise_bytes, device) >= ROSE_RATIO


def _suspicion(device: DeviceEvidence) -> tuple[bool, float]:
    return _filled_up(device), _ratio(device.peak_bytes, device)


def _verdict(
    rule: str, confidence: Confidence | None, evidence: OomEvidence, device: DeviceEvidence
) -> OomVerdict | None:
    if confidence is None:
        return None
    return OomVerdict(
        termination=evidence.termination,
        confidence=confidence,
        rule=rule,
        device_uuid=device.uuid,
        peak_bytes=device.peak_bytes,
        limit_bytes=device.limit_bytes,
        cotenant_bytes=device.cotenant_bytes,
    )
