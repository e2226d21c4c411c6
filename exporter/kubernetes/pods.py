"""From a pod of the API server to what the exporter keeps of the pod."""

import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from typing import Any, Final

from exporter.endings.reading import read
from exporter.kubernetes.owners import Pod, workload
from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.pods import ContainerRecord, Exemption, PodRecord, Termination

_Json = Mapping[str, Any]

EXEMPT: Final = "kube-gpu-exporter/exempt"
"""Annotation, or label, by which a pod is exempt from alerts: words of ``Exemption``, by commas."""

SIMULATE: Final = "kube-gpu-exporter/simulate"
"""Annotation by which a pod says what it does on simulated GPUs."""

# Reasons of a container that say more than its pod's reason.
_OWN_REASONS: Final = {"OOMKilled", "Completed"}


class LabelFilter:
    """Selects the labels of pods that are kept, by keys or shell patterns, case-sensitive."""

    def __init__(self, patterns: Collection[str] = ()) -> None:
        self._matches = re.compile("|".join(map(translate, patterns)) or r"(?!)").match

    def __call__(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {sys.intern(key): value for key, value in labels.items() if self._matches(key)}


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a container's run, by the pod's status."""

    pod: Pod
    name: str
    terminated: _Json
    finished_at: UnixSeconds
    restarts: int
    pod_reason: str | None

    @property
    def key(self) -> tuple[str, str]:
        """What distinguishes this run from all others of the pod."""
        # A run's own id, where the runtime gave one: restarts are miscounted after a reboot.
        return self.name, self.terminated.get("containerID") or self.terminated["finishedAt"]

    @property
    def termination(self) -> Termination:
        """What the exporter keeps of the end. Classifying the message takes long: ask once."""
        metadata, terminated = self.pod["metadata"], self.terminated
        reason = terminated.get("reason") or ""
        if self.pod_reason and reason not in _OWN_REASONS:
            reason = self.pod_reason
        return Termination(
            container=Container(metadata["namespace"], metadata["name"], self.name),
            pod_uid=metadata["uid"],
            restart_count=self.restarts,
            exit_code=terminated["exitCode"],
            reason=sys.intern(reason),
            words=read(terminated.get("message")),
            started_at=_unix(terminated.get("startedAt")),
            finished_at=self.finished_at,
        )


def parse_pod(pod: Pod, labels: LabelFilter) -> PodRecord:
    """Return what the exporter keeps of a pod.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` if ``pod`` is no pod.
    """
    metadata = pod["metadata"]
    kind, name = workload(pod)
    return PodRecord(
        uid=metadata["uid"],
        namespace=sys.intern(metadata["namespace"]),
        name=metadata["name"],
        workload_kind=sys.intern(kind),
        workload=name,
        labels=labels(metadata.get("labels") or {}),
        exempt=_exempt(metadata),
        containers=tuple(
            ContainerRecord(
                name=sys.intern(status["name"]),
                container_id=_without_scheme(status.get("containerID")),
                running_since=_running_since(status),
            )
            for status in _statuses(pod)
        ),
        simulate=(metadata.get("annotations") or {}).get(SIMULATE),
    )


def parse_terminations(pod: Pod) -> Iterator[Ended]:
    """Yield the ends that the pod's status still holds, at most two of a container.

    If a pod failed as a whole, by an eviction for one, the pod's reason replaces the reasons of its
    containers, unless the kernel killed a container for memory or the container had ended well.
    Runs of which the kubelet lost track have no time of their end, and are left out.
    """
    status = pod.get("status") or {}
    pod_reason = status.get("reason") if status.get("phase") == "Failed" else None
    for container in _statuses(pod):
        restarts = container.get("restartCount", 0)
        state = container.get("state") or {}
        if last := (container.get("lastState") or {}).get("terminated"):
            # While the next run waits for its back-off, restarts do not count it yet.
            before = restarts if "waiting" in state else max(0, restarts - 1)
            yield from _ended(pod, container["name"], last, restarts=before)
        if now := state.get("terminated"):
            yield from _ended(pod, container["name"], now, restarts=restarts, pod_reason=pod_reason)


def _exempt(metadata: _Json) -> frozenset[Exemption]:
    """Return the known words. The others are left out: a label of the metrics shows what counts."""
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    words = annotations.get(EXEMPT, labels.get(EXEMPT, "")).split(",")
    return frozenset(word for word in Exemption if word in map(str.strip, words))


def _ended(
    pod: Pod, name: str, terminated: _Json, *, restarts: int, pod_reason: str | None = None
) -> Iterator[Ended]:
    finished_at = _unix(terminated.get("finishedAt"))
    if finished_at is not None:
        yield Ended(pod, name, terminated, finished_at, restarts, pod_reason)


def _statuses(pod: Pod) -> Iterator[_Json]:
    """Yield the statuses of containers, and of sidecars: init containers that go on running."""
    status = pod.get("status") or {}
    sidecars = {
        container["name"]
        for container in pod["spec"].get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    for container in status.get("initContainerStatuses") or ():
        if container["name"] in sidecars:
            yield container
    yield from status.get("containerStatuses") or ()


def _running_since(status: _Json) -> UnixSeconds | None:
    running = (status.get("state") or {}).get("running") or {}
    return _unix(running.get("startedAt"))


def _without_scheme(container_id: str | None) -> str | None:
    return container_id.partition("://")[2] or None if container_id else None


def _unix(time: str | None) -> UnixSeconds | None:
    """Return the seconds of an RFC 3339 time. What never was is ``null``, or 1970 or earlier."""
    seconds = datetime.fromisoformat(time).timestamp() if time else 0.0
    return UnixSeconds(seconds) if seconds > 0 else None
