"""Each overlay against the Pod Security Standards' profile ``restricted``, control by control.

What an overlay may do beyond the profile is listed here; anything else fails. The controls, those
of ``baseline`` included, are for Linux:
https://kubernetes.io/docs/concepts/security/pod-security-standards
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.daemonset.render import KUSTOMIZE, find, kustomize

Control = Callable[[Any, Any], bool]
"""Whether a pod's spec and one of its containers keep to it."""

VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
SYSCTLS: Final = {
    "kernel.shm_rmid_forced",
    *(f"net.ipv4.{name}" for name in ("ip_local_port_range", "ip_local_reserved_ports")),
    *(f"net.ipv4.{name}" for name in ("ip_unprivileged_port_start", "tcp_syncookies")),
    *("net.ipv4.ping_group_range", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    *(f"net.ipv4.tcp_keepalive_{name}" for name in ("time", "intvl", "probes")),
    "net.ipv4.tcp_fin_timeout",
}


def effective(pod: Any, container: Any, field: str) -> Any:
    """Return a setting of the security context; the container's goes before the pod's."""
    own = container.get("securityContext", {})
    return own[field] if field in own else pod.get("securityContext", {}).get(field)


def own(container: Any, field: str) -> Any:
    return container.get("securityContext", {}).get(field)


CONTROLS: Final[Mapping[str, Control]] = {
    "host namespaces": lambda pod, _: (
        not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    ),
    "privileged containers": lambda _, one: not own(one, "privileged"),
    "capabilities": lambda _, one: (
        "ALL" in (own(one, "capabilities") or {}).get("drop", [])
        and set((own(one, "capabilities") or {}).get("add", [])) <= {"NET_BIND_SERVICE"}
    ),
    "volume types": lambda pod, _: all(
        set(volume) - {"name"} <= VOLUMES for volume in pod.get("volumes", [])
    ),
    "host ports": lambda _, one: not any(port.get("hostPort") for port in one.get("ports", [])),
    "host probes": lambda _, one: (
        not any(
            (one.get(probe) or {}).get("httpGet", {}).get("host")
            for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        )
    ),
    "AppArmor": lambda pod, one: (
        (effective(pod, one, "appArmorProfile") or {}).get("type") != "Unconfined"
    ),
    "SELinux": lambda pod, one: not effective(pod, one, "seLinuxOptions"),
    "/proc mount type": lambda _, one: own(one, "procMount") in {None, "Default"},
    "seccomp": lambda pod, one: (
        (effective(pod, one, "seccompProfile") or {}).get("type") in {"RuntimeDefault", "Localhost"}
    ),
    "sysctls": lambda pod, _: (
        {each["name"] for each in pod.get("securityContext", {}).get("sysctls", [])} <= SYSCTLS
    ),
    "privilege escalation": lambda _, one: own(one, "allowPrivilegeEscalation") is False,
    "running as non-root": lambda pod, one: effective(pod, one, "runAsNonRoot") is True,
    "running as non-root user": lambda pod, one: effective(pod, one, "runAsUser") != 0,
}

BASE: Final = {"volume types", "running as non-root", "running as non-root user"}
"""The kubelet's socket is in a directory of the host, and root's."""
MORE: Final[Mapping[str, set[str]]] = {
    "gke": {"privileged containers", "privilege escalation", "capabilities"},
    "minikube": {"host namespaces"},
    "shared-gpus": {"host namespaces"},
}
HOST_PATHS: Final[Mapping[str, set[str]]] = {
    "gke": {"/home/kubernetes/bin/nvidia"},
    "eks-karpenter": {"/dev/null"},
    "simulated": {"/var/lib/kubelet/device-plugins"},
}
WRITABLE: Final[Mapping[str, set[str]]] = {"simulated": {"/var/lib/kubelet/device-plugins"}}

OVERLAYS: Final = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())


def violated(pod: Any) -> set[str]:
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    return {
        name
        for name, keeps in CONTROLS.items()
        if not all(keeps(pod, container) for container in containers)
    }


def spec(name: str) -> Any:
    path = "base" if name == "base" else f"overlays/{name}"
    return find(kustomize(KUSTOMIZE / path), "DaemonSet")["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_exceptions_are_those_listed(name: str) -> None:
    assert violated(spec(name)) == BASE | MORE.get(name, set())


@pytest.mark.parametrize("name", ["base", *OVERLAYS])
def test_host_paths_are_those_listed_and_read_only(name: str) -> None:
    pod = spec(name)
    paths = {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert paths == {"/var/lib/kubelet/pod-resources"} | HOST_PATHS.get(name, set())
    written = {
        mount["mountPath"]
        for one in pod["containers"]
        for mount in one["volumeMounts"]
        if not mount.get("readOnly")
    }
    assert written == WRITABLE.get(name, set())
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in pod["containers"])


def test_without_the_kubelet_a_pod_is_restricted(tmp_path: Path) -> None:
    used = {"resources": ["base"], "components": ["components/without-kubelet"]}
    paths = {
        kind: [os.path.relpath(KUSTOMIZE / name, tmp_path) for name in names]
        for kind, names in used.items()
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(paths))
    pod = find(kustomize(tmp_path), "DaemonSet")["spec"]["template"]["spec"]
    assert violated(pod) == set()


def test_a_namespace_admits_what_is_asked_for() -> None:
    labels = find(kustomize(KUSTOMIZE / "base"), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


@pytest.mark.parametrize(
    ("control", "pod", "container"),
    [
        ("host namespaces", {"hostIPC": True}, {}),
        ("privileged containers", {}, {"privileged": True}),
        ("capabilities", {}, {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
        ("capabilities", {}, {"capabilities": {"drop": ["KILL"]}}),
        ("volume types", {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, {}),
        ("AppArmor", {}, {"appArmorProfile": {"type": "Unconfined"}}),
        ("SELinux", {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, {}),
        ("/proc mount type", {}, {"procMount": "Unmasked"}),
        ("seccomp", {}, {"seccompProfile": {"type": "Unconfined"}}),
        ("sysctls", {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, {}),
        ("privilege escalation", {}, {"allowPrivilegeEscalation": True}),
        ("running as non-root", {}, {"runAsNonRoot": False}),
        ("running as non-root user", {}, {"runAsUser": 0}),
    ],
)
def test_the_checklist_sees_a_violation(control: str, pod: Any, container: Any) -> None:
    kept = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert violated({"containers": [{"securityContext": kept}]}) == set()
    assert violated({"containers": [{"securityContext": kept | container}], **pod}) == {control}
