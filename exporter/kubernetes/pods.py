"""From a pod of the API server to what the exporter keeps of the pod."""

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from fnmatch import translate
from typing import Any, Final

from exporter.endings.reading import read
from exporter.kubernetes.actors import actor, has_shm
from exporter.kubernetes.failures import MALFORMED
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
_ENDED: Final = {"Succeeded", "Failed"}


class Patterns:
    """Names that are wanted: exact ones, or shell patterns of them, case-sensitive."""

    def __init__(self, patterns: Collection[str] = ()) -> None:
        self._matches = re.compile("|".join(map(translate, patterns)) or r"(?!)").match

    def __contains__(self, name: str) -> bool:
        return self._matches(name) is not None


NOTHING: Final = Patterns()


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a container's run, by the pod's status."""

    pod: Pod
    container: "_Container"
    wants_devices: bool
    terminated: _Json
    finished_at: UnixSeconds
    restarts: int
    pod_reason: str | None
    present: bool
    """Whether this is the container's present state, and not that of the run before."""

    @property
    def key(self) -> tuple[str, str]:
        """What distinguishes this run from all others of the pod."""
        # A run's own id, where the runtime gave one: restarts are miscounted after a reboot.
        run = self.terminated.get("containerID") or self.terminated["finishedAt"]
        return self.container.name, _text(run)

    @property
    def termination(self) -> Termination:
        """What the exporter keeps of the end. Classifying the message takes long: ask once."""
        metadata, terminated = self.pod["metadata"], self.terminated
        reason = _text(terminated.get("reason") or "")
        if self.pod_reason and reason not in _OWN_REASONS:
            reason = self.pod_reason
        message = terminated.get("message")
        return Termination(
            container=Container(
                _text(metadata["namespace"]), _text(metadata["name"]), self.container.name
            ),
            pod_uid=_text(metadata["uid"]),
            restart_count=_number(self.restarts),
            exit_code=_number(terminated["exitCode"]),
            reason=sys.intern(reason),
            words=read(message if isinstance(message, str) else None),
            started_at=_unix(terminated.get("startedAt")),
            finished_at=self.finished_at,
            actor=actor(self.pod, self.finished_at, present=self.present, unix=_unix_if_any),
            has_shm=has_shm(self.pod, self.container.spec),
            init=self.container.role is not _Role.MAIN,
            wants_devices=self.wants_devices,
        )


def parse_pod(
    pod: Pod,
    labels: Patterns,
    resources: Patterns = NOTHING,
    malformed: Callable[[str], None] = lambda _: None,
) -> PodRecord:
    """Return what the exporter keeps of a pod: of its labels, those that ``labels`` has.

    ``resources`` are the names of those resources that are devices. A label or an annotation that
    is no text is left out, and ``malformed`` is called with its name.

    Raises one of :data:`~exporter.kubernetes.failures.MALFORMED` if ``pod`` is no pod.
    """
    pod = _with_texts(pod, malformed)
    metadata, status = pod["metadata"], pod.get("status") or {}
    kind, name = workload(pod)
    containers = tuple(_containers(pod))
    return PodRecord(
        uid=_text(metadata["uid"]),
        namespace=sys.intern(_text(metadata["namespace"])),
        name=_text(metadata["name"]),
        workload_kind=sys.intern(_text(kind)),
        workload=_text(name),
        labels={
            sys.intern(key): value
            for key, value in (metadata.get("labels") or {}).items()
            if key in labels
        },
        exempt=_exempt(metadata),
        containers=tuple(
            ContainerRecord(
                name=sys.intern(container.name),
                container_id=_without_scheme(container.status.get("containerID")),
                running_since=_running_since(container.status),
            )
            for container in containers
            if container.status and container.role is not _Role.INIT
        ),
        simulate=(metadata.get("annotations") or {}).get(SIMULATE),
        wants_devices=any(each.requests(resources) or each.has_claims for each in containers),
        ended=status.get("phase") in _ENDED,
    )


def parse_terminations(pod: Pod, resources: Patterns = NOTHING) -> Iterator[Ended]:
    """Yield the ends that the pod's status still holds, at most two of a container.

    If a pod failed as a whole, by an eviction for one, the pod's reason replaces the reasons of its
    containers, unless the kernel killed a container for memory or the container had ended well.
    Runs of which the kubelet lost track have no time of their end, and are left out. So are init
    containers that run once and request none of ``resources``: each pod may have some.

    Raises one of :data:`~exporter.kubernetes.failures.MALFORMED` if ``pod`` is no pod.
    """
    status = pod.get("status") or {}
    pod_reason = status.get("reason") if status.get("phase") == "Failed" else None
    for container in _containers(pod):
        wants_devices = container.requests(resources)
        if container.role is _Role.INIT and not wants_devices:
            continue
        restarts = container.status.get("restartCount", 0)
        state = container.status.get("state") or {}
        # While the next run waits for its back-off, restarts do not count it yet.
        before = restarts if "waiting" in state else max(0, restarts - 1)
        last = (container.status.get("lastState") or {}).get("terminated")
        present = state.get("terminated")
        for terminated, number, is_present in ((last, before, False), (present, restarts, True)):
            if terminated and (finished_at := _unix(terminated.get("finishedAt"))):
                reason = pod_reason if is_present else None
                yield Ended(
                    pod,
                    container,
                    wants_devices,
                    terminated,
                    finished_at,
                    number,
                    reason,
                    is_present,
                )


class _Role(Enum):
    MAIN = auto()
    SIDECAR = auto()
    """An init container that goes on running."""
    INIT = auto()
    """An init container that runs once, before all others."""


@dataclass(frozen=True, slots=True)
class _Container:
    """A container of a pod: what it should be, and what has become of it so far."""

    name: str
    role: _Role
    spec: _Json
    """Empty for a container that was added to a running pod."""
    status: _Json
    """Empty as long as the kubelet has not reported any."""

    def requests(self, resources: Patterns) -> bool:
        """Whether the container requests one of the resources."""
        wanted = self.spec.get("resources") or {}
        names = {*(wanted.get("limits") or {}), *(wanted.get("requests") or {})}
        return any(name in resources for name in names)

    @property
    def has_claims(self) -> bool:
        """Whether the container has a ResourceClaim, of whatever driver."""
        return bool((self.spec.get("resources") or {}).get("claims"))


def _containers(pod: Pod) -> Iterator[_Container]:
    """Yield the containers in the order in which they start."""
    status = pod.get("status") or {}
    for kind, of in (
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
    ):
        statuses = {found["name"]: found for found in status.get(of) or ()}
        specs = {found["name"]: found for found in pod["spec"].get(kind) or ()}
        for name in dict.fromkeys((*specs, *statuses)):
            spec = specs.get(name, {})
            role = _Role.MAIN
            if kind == "initContainers":
                role = _Role.SIDECAR if spec.get("restartPolicy") == "Always" else _Role.INIT
            yield _Container(_text(name), role, spec, statuses.get(name, {}))


def _exempt(metadata: _Json) -> frozenset[Exemption]:
    """Return the known words. The others are left out: a label of the metrics shows what counts."""
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    words = annotations.get(EXEMPT, labels.get(EXEMPT, "")).split(",")
    return frozenset(word for word in Exemption if word in map(str.strip, words))


def _with_texts(pod: Pod, malformed: Callable[[str], None]) -> Pod:
    """Return the pod with those of its labels and annotations that are text, as all should be."""
    metadata = pod["metadata"]
    for field in ("labels", "annotations"):
        found = metadata.get(field) or {}
        texts = {key: value for key, value in found.items() if isinstance(value, str)}
        if len(texts) < len(found):
            metadata = {**metadata, field: texts}
            for key in found.keys() - texts.keys():
                malformed(f"{field[:-1]} {key} of {metadata['name']}")
    return pod if metadata is pod["metadata"] else {**pod, "metadata": metadata}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} is no number")
    return value


def _without_scheme(container_id: object) -> str | None:
    return _text(container_id).partition("://")[2] or None if container_id else None


def _running_since(status: _Json) -> UnixSeconds | None:
    running = (status.get("state") or {}).get("running") or {}
    return _unix(running.get("startedAt"))


def _unix_if_any(time: object) -> UnixSeconds | None:
    """Return the seconds of a time, or ``None`` also for what is no time."""
    try:
        return _unix(time)
    except MALFORMED:
        return None


def _unix(time: object) -> UnixSeconds | None:
    """Return the seconds of an RFC 3339 time. What never was is ``null``, or 1970 or earlier."""
    seconds = datetime.fromisoformat(_text(time)).timestamp() if time else 0.0
    return UnixSeconds(seconds) if seconds > 0 else None
