"""Who ended a pod's containers from outside, by the pod's own status.

Sources, in kubernetes/kubernetes: ``pkg/kubelet/eviction``, ``pkg/kubelet/nodeshutdown``,
``pkg/kubelet/preemption``, and the reasons of the condition ``DisruptionTarget``
(``staging/src/k8s.io/api/core/v1/types.go``). In kubernetes-sigs/kueue:
``pkg/controller/jobs/pod/pod_controller.go``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from exporter.model.clocks import UnixSeconds
from exporter.model.ends import Cause

_Json = Mapping[str, Any]

_POD_REASONS: Final[Mapping[str, Cause]] = {
    "Evicted": Cause.EVICTED,
    "DeadlineExceeded": Cause.DEADLINE,
    "Preempting": Cause.PREEMPTED,
    "Terminated": Cause.PREEMPTED,  # the node is shut down
    "Shutdown": Cause.PREEMPTED,
    "NodeShutdown": Cause.PREEMPTED,
}
_CONDITIONS: Final[Mapping[tuple[str, str], Cause]] = {
    ("DisruptionTarget", "PreemptionByScheduler"): Cause.PREEMPTED,
    ("DisruptionTarget", "EvictionByEvictionAPI"): Cause.PREEMPTED,
    ("DisruptionTarget", "DeletionByTaintManager"): Cause.PREEMPTED,
    ("DisruptionTarget", "DeletionByPodGC"): Cause.PREEMPTED,
    ("DisruptionTarget", "TerminationByKubelet"): Cause.PREEMPTED,
    ("TerminationTarget", "StoppedByKueue"): Cause.PREEMPTED,
}
_GRACE_SECONDS: Final = 30
"""What a pod has to stop, if it says nothing else."""
_SLACK_SECONDS: Final = 5
"""Times are in whole seconds, and come from more than one clock."""


def actor(
    pod: _Json,
    finished_at: UnixSeconds,
    *,
    present: bool,
    unix: Callable[[object], UnixSeconds | None],
) -> Cause | None:
    """Return what ended a container from outside; ``None``: nothing, as far as the pod says.

    A container that ended before the pod was disturbed keeps its own cause. ``present``: the end is
    the container's present state, and not that of a run before. ``unix`` reads a time.
    """
    status, metadata = pod.get("status") or {}, pod["metadata"]
    grace = (pod.get("spec") or {}).get("terminationGracePeriodSeconds")
    allowed = (grace if isinstance(grace, int) else _GRACE_SECONDS) + _SLACK_SECONDS
    reason = status.get("reason") if present and status.get("phase") == "Failed" else None
    for condition in status.get("conditions") or ():
        cause = _CONDITIONS.get((condition.get("type"), condition.get("reason")))
        since = unix(condition.get("lastTransitionTime"))
        if cause is None or condition.get("status") != "True" or since is None:
            continue
        # The kubelet sets its condition when the containers have ended, others before that.
        if finished_at < since - allowed:
            return None
        return _POD_REASONS.get(str(reason), cause)
    if cause := _POD_REASONS.get(str(reason)):
        return cause
    deleted = unix(metadata.get("deletionTimestamp"))
    if deleted is None:
        return None
    period = metadata.get("deletionGracePeriodSeconds")
    asked = deleted - (period if isinstance(period, int) else 0)
    return Cause.STOPPED if finished_at >= asked - 1 else None


def has_shm(pod: _Json, container: _Json) -> bool:
    """Whether the pod gives a container a ``/dev/shm`` of its own, or the host's."""
    if (pod.get("spec") or {}).get("hostIPC"):
        return True
    paths = (mount.get("mountPath") for mount in container.get("volumeMounts") or ())
    return any(str(path).rstrip("/") == "/dev/shm" for path in paths)  # noqa: S108
