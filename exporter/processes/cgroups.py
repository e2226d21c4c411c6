"""The cgroup paths under which container runtimes run the kubelet's containers.

A wrong match would attribute one pod's work to another. So a path has to name both the pod and the
container, in full and in the kubelet's own form. Of nested matches the outermost counts, because
containers may create cgroups below their own.
"""

import re
from dataclasses import dataclass
from typing import Final

# Static pods have a hash without separators.
_POD: Final = r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_CONTAINER: Final = r"(?:cri-containerd-|crio-|docker-)?([0-9a-f]{64})"
_QOS: Final = "(?:burstable|besteffort|guaranteed)"

_PATH: Final = re.compile(
    # cgroupfs: /kubepods/burstable/pod<uid>/<id>. In a cgroup namespace, paths are relative to the
    # exporter's own cgroup, and `..` replaces the common beginning.
    rf"(?:/kubepods|^(?:/\.\.)+)(?:/{_QOS})?/{_POD}/{_CONTAINER}(?:/|$)"
    # systemd: …/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope, with a prefix if the
    # kubelet has a cgroup root. With colons and without a scope, the runtime is set to cgroupfs,
    # and the kubelet to systemd.
    rf"|/(?:[^/]+-)?kubepods(?:-{_QOS})?-{_POD}\.slice"
    rf"(?:/{_CONTAINER}\.scope|:[a-z-]+:([0-9a-f]{{64}}))(?:/|$)"
)


@dataclass(frozen=True, slots=True)
class CgroupRef:
    """The pod and the container that a process runs in."""

    pod_uid: str
    """With dashes. For a static pod it is a hash of the kubelet's, unknown to the API server."""
    container_id: str
    """The id that the runtime gave, without its scheme."""


def parse(text: str) -> CgroupRef | None:
    """Parse a ``/proc/<pid>/cgroup`` file of cgroup v1 or v2; ``None``: in no pod. Never raises."""
    for line in text.splitlines():
        path = line.split(":", 2)[-1].removesuffix(" (deleted)")
        if match := _PATH.search(path):
            pod, container = filter(None, match.groups())
            return CgroupRef(pod.replace("_", "-"), container)
    return None
