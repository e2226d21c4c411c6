"""What a Kubernetes Event says of the end of a container."""

from typing import Final

from exporter.model.ends import IN_WORDS, Cause, Responsible
from exporter.model.oom import Confidence, OomVerdict
from exporter.model.verdicts import EndVerdict

_OF_KUBERNETES: Final = {Cause.EVICTED, Cause.PREEMPTED, Cause.DEADLINE}
"""Kubernetes posts Events of its own about these."""
_SAYS_NOTHING: Final = {Cause.PROGRAM, Cause.CRASH, Cause.UNKNOWN}
"""The pod's log says more."""


def event_of(verdict: EndVerdict) -> tuple[str, str] | None:
    """Return the reason and the message; ``None``: nobody would act on the Event.

    The message is for the one who looks at ``kubectl describe pod``.
    """
    if verdict.cause is Cause.GPU_OOM and verdict.oom:
        return "GPUOutOfMemory", _of_memory(verdict.oom)
    if (
        verdict.responsible is Responsible.NOBODY
        or verdict.cause in _OF_KUBERNETES | _SAYS_NOTHING
        or verdict.confidence is Confidence.POSSIBLE
    ):
        return None
    name = verdict.termination.container.name
    text = f"Container {name} ended: {IN_WORDS[verdict.cause]} ({verdict.confidence})"
    if first := verdict.first:
        failed = f"{first.container.namespace}/{first.container.pod}"
        text += f". The first failure of the job on this node was {failed}: {IN_WORDS[first.cause]}"
    return "GPUContainerEnded", f"{text}."


def _of_memory(verdict: OomVerdict) -> str:
    name, device = verdict.termination.container.name, verdict.device_uuid or "its GPU"
    text = f"Container {name} ran out of GPU memory ({verdict.confidence}) on {device}"
    if verdict.peak_bytes is not None and verdict.limit_bytes is not None:
        used, limit = _gib(verdict.peak_bytes), _gib(verdict.limit_bytes)
        text += f": {used} of the device's {limit} GiB were in use"
    others = sorted(verdict.cotenant_bytes.items(), key=lambda other: -other[1])
    for holder, used_bytes in others[:3]:
        text += f"; {holder.namespace}/{holder.pod} used {_gib(used_bytes)} GiB of it"
    return text + "."


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f}"
