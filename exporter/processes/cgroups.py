"""The cgroup paths under which container runtimes run the kubelet's containers.

A wrong match blames one pod for another's work, so a path has to name both pod and container, whole
and in the kubelet's own form. Of nested ones the outermost is the node's: what a container makes
below its own cgroup is its own affair.
"""

import re
from dataclasses import dataclass

# Static pods have a hash without separators.
_POD = r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_CONTAINER = r"(?:cri-containerd-|crio-|docker-)?([0-9a-f]{64})"
_QOS = "(?:burstable|besteffort|guaranteed)"

_PATH = re.compile(
    # cgroupfs: /kubepods/burstable/pod<uid>/<id>. Seen from a cgroup namespace of our own, paths
    # start at our cgroup, and `..` stands in for what they have in common with it.
    rf"(?:/kubepods|^(?:/\.\.)+)(?:/{_QOS})?/{_POD}/{_CONTAINER}(?:/|$)"
    # systemd: …/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope, behind a prefix where
    # the kubelet has a cgroup root. A colon and no scope is how a runtime that is set to cgroupfs
    # writes down what a kubelet that is set to systemd asks it for.
    rf"|/(?:[^/]+-)?kubepods(?:-{_QOS})?-{_POD}\.slice"
    rf"(?:/{_CONTAINER}\.scope|:[a-z-]+:([0-9a-f]{{64}}))(?:/|$)"
)


@dataclass(frozen=True, slots=True)
class CgroupRef:
    """The pod and the container that a process runs in."""

    pod_uid: str
    """With dashes. A static pod's is the hash that the kubelet gave it, which the API server does
    not know it by."""
    container_id: str
    """The runtime's id without its scheme."""


def parse(text: str) -> CgroupRef | None:
    """Read a ``/proc/<pid>/cgroup`` file, of cgroup v1 or v2; ``None``: in no pod. Never raises."""
    for line in text.splitlines():
        path = line.split(":", 2)[-1].removesuffix(" (deleted)")
        if match := _PATH.search(path):
            pod, container = filter(None, match.groups())
            return CgroupRef(pod.replace("_", "-"), container)
    return None
