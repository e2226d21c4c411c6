"""The checks of ``doctor``: small functions from what there is to a :class:`Finding`.

None of them needs the hardware, so that each can be tested with what it would have seen there.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from exporter.config import Config
from exporter.gpus import GpuError
from exporter.kubernetes.failures import ApiError, ApiFailure
from exporter.model.claims import Claims
from exporter.model.devices import Driver, Gpu
from exporter.model.readings import FastReading, FullReading, Reason, SlowReading
from exporter.processes.owners import ProcessOwners

_RUNTIME_CLASS: Final = (
    "run the pod with runtimeClassName: nvidia, NVIDIA_VISIBLE_DEVICES=all and"
    " NVIDIA_DRIVER_CAPABILITIES=utility; where nodes ignore NVIDIA_VISIBLE_DEVICES (Bottlerocket),"
    " mount /dev/null at /var/run/nvidia-container-devices/all"
)
_OUTSIDE: Final = (
    "install NVIDIA's driver; in a container, ask for the GPUs (docker run --gpus all)"
)
_HUNG: Final = "look for an Xid in the kernel log (dmesg); the GPU or the node has to be reset"
_REMEDIES: Final = {
    Reason.LIBRARY_MISMATCH: "the driver was upgraded while it was loaded: reload its kernel module"
    " or reboot the node, then restart this pod so that it gets the new library",
    Reason.DRIVER_NOT_LOADED: "install the driver, or load it with: modprobe nvidia",
    Reason.GPU_LOST: "the GPU has fallen off the bus: reboot the node; if the GPU is lost again,"
    " the hardware is broken",
    Reason.RESET_REQUIRED: "drain the node and reset the GPU: nvidia-smi --gpu-reset",
    Reason.TIMEOUT: _HUNG,
}


class Level(StrEnum):
    OK = "ok"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. ``todo`` is empty where there is nothing to do."""

    name: str
    level: Level
    what: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """All that one GPU gives: one reading of each kind, the full one from the second of two."""

    fast: FastReading
    full: FullReading
    slow: SlowReading


NO_GPU: Final = Finding(
    "no GPU",
    Level.INFO,
    "this machine has no NVIDIA GPU",
    "to try the exporter without a GPU: kube-gpu-exporter --backend simulated",
)


def driver(root: Path) -> Finding:
    """Whether the kernel has the driver."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        return Finding(
            "driver",
            Level.FAIL,
            "the kernel has no NVIDIA driver: /proc/driver/nvidia/version is missing",
            _REMEDIES[Reason.DRIVER_NOT_LOADED] + "; on nodes without GPUs, do not run there",
        )
    version = re.search(r"\s(\d+\.\d[\d.]*)\s", text)
    return Finding("driver", Level.OK, f"kernel module {version[1] if version else 'loaded'}")


def device_nodes(root: Path, environment: Mapping[str, str]) -> Finding:
    """Whether NVML can open what it needs. May block."""
    found = sorted(
        path
        for path in (root / "dev").glob("nvidia*")
        if re.fullmatch(r"nvidia(ctl|\d+)", path.name)
    )
    if not found:
        todo = _give_gpus(environment)
        return Finding("device nodes", Level.FAIL, "there is no /dev/nvidia*", todo)
    refused = []
    for path in found:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            refused.append(f"/dev/{path.name}: {error.strerror}")
    if refused:
        todo = _remedy(Reason.NO_PERMISSION, environment)
        return Finding("device nodes", Level.FAIL, "; ".join(refused), todo)
    return Finding("device nodes", Level.OK, " ".join(path.name for path in found))


def not_needed(missing: Finding) -> Finding:
    """Return a finding about the kernel's side where the driver's library answers without it."""
    what = f"{missing.what}; but the driver answers, as it does in WSL2"
    return Finding(missing.name, Level.INFO, what)


def library(opened: Driver | Exception, environment: Mapping[str, str]) -> Finding:
    """Whether the driver's library loads and talks to the driver."""
    if isinstance(opened, Exception):
        return failed("library", opened, environment)
    cuda = f", CUDA up to {opened.cuda_version}" if opened.cuda_version else ""
    return Finding("library", Level.OK, f"driver {opened.version} answers{cuda}")


def devices(gpus: Sequence[Gpu], known: int, environment: Mapping[str, str]) -> Finding:
    """Which GPUs there are; ``known`` is how many the kernel's driver has."""
    visible = environment.get("NVIDIA_VISIBLE_DEVICES")
    todo = "" if visible in (None, "all") else f"set NVIDIA_VISIBLE_DEVICES=all, not {visible!r}"
    if not gpus:
        none = f"the driver answers, but shows no GPU (the kernel has {known})"
        return Finding("GPUs", Level.FAIL, none, todo or _give_gpus(environment))
    what = ", ".join(
        f"{n} x {model or 'unidentified'}"
        for model, n in Counter(gpu.model for gpu in gpus).items()
    )
    if len(gpus) < known:
        what = f"only {len(gpus)} of {known}: {what}"
        return Finding(
            "GPUs", Level.WARN, what, todo or "look for an Xid in the kernel log (dmesg)"
        )
    return Finding("GPUs", Level.OK, what)


_MONITOR: Final = "NVIDIA_MIG_MONITOR_DEVICES=all with CAP_SYS_ADMIN"


def mig(gpus: Sequence[Gpu], environment: Mapping[str, str]) -> Finding:
    """Whether the slices of GPUs in MIG mode are visible."""
    enabled = [gpu for gpu in gpus if gpu.mig_enabled]
    if not enabled:
        return Finding("MIG", Level.OK, "no GPU is in MIG mode")
    if empty := ", ".join(str(gpu.index) for gpu in enabled if not gpu.slices):
        return Finding(
            "MIG",
            Level.WARN,
            f"no slice can be seen of these GPUs, which are in MIG mode: {empty}",
            f"create slices; if there are some, give the pod {_MONITOR}",
        )
    profiles = Counter(slice_.profile for gpu in enabled for slice_ in gpu.slices)
    slices = ", ".join(f"{n} x {profile}" for profile, n in profiles.items())
    what = f"GPUs in MIG mode: {len(enabled)}; slices: {slices}"
    if _sees_slices_only(environment):
        todo = f"unless the pod is privileged, give it {_MONITOR}, to see processes and events"
        return Finding("MIG", Level.INFO, what, todo)
    return Finding("MIG", Level.OK, what)


def _sees_slices_only(environment: Mapping[str, str]) -> bool:
    """Whether the runtime gave this container GPUs without the right to monitor slices."""
    monitored = environment.get("NVIDIA_MIG_MONITOR_DEVICES") == "all"
    return "NVIDIA_VISIBLE_DEVICES" in environment and not monitored


def readings(
    results: Mapping[int, Readings | Exception], environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Whether each GPU, by index, can be read, and which of its fields can't."""
    for index, result in results.items():
        if isinstance(result, Exception):
            yield failed(f"GPU {index}", result, environment)
    read = [result for result in results.values() if isinstance(result, Readings)]
    refused: dict[Reason, set[str]] = {}
    for each in read:
        for failure in (*each.fast.failures, *each.full.failures, *each.slow.failures):
            refused.setdefault(failure.reason, set()).add(failure.field)
    for reason, fields in refused.items():
        todo = "run as root, with CAP_SYS_ADMIN" if reason is Reason.NO_PERMISSION else ""
        yield Finding("fields", Level.WARN, f"{reason}: {', '.join(sorted(fields))}", todo)
    if read:
        yield Finding("readings", Level.OK, f"{len(read)} of {len(results)} GPUs can be read")


def activity(results: Sequence[Readings]) -> Iterator[Finding]:
    """Whether GPUs that can be read report more of their use than when any kernel ran."""
    able = [each for each in results if each.full.activity or each.full.instance_activity]
    if able:
        what = f"{len(able)} of {len(results)} GPUs have a performance monitor"
        yield Finding("activity", Level.OK, what)
    elif results:
        what = (
            "no GPU has a performance monitor (GPM, Hopper and newer), so that series of activity"
        )
        yield Finding("activity", Level.INFO, f"{what} are absent")


def kubelet_socket(config: Config, *, simulated: bool) -> Finding | None:
    """Whether there is no point in asking the kubelet, and why."""
    if config.kubelet == "off" or simulated:
        why = "simulated as well" if simulated else "not asked, because kubelet is off"
        return Finding("kubelet", Level.INFO, why)
    socket = config.kubelet_socket
    # os.path.isdir() is false, rather than raising, where we may not even look.
    if not os.path.isdir(socket.parent):  # noqa: PTH112
        return Finding(
            "kubelet",
            Level.FAIL if config.kubelet == "on" else Level.WARN,
            f"cannot see {socket.parent}, so there are no series of containers",
            f"mount it from the host (hostPath: {socket.parent}) and run as root, or set"
            " kubelet: off",
        )
    try:
        socket.stat()
    except OSError as error:
        return Finding(
            "kubelet",
            Level.FAIL,
            f"{socket}: {error.strerror}",
            "check that the kubelet runs and that the host's directory is mounted; run as root",
        )
    return None


def kubelet_claims(answer: Claims | Exception, patterns: Sequence[str]) -> Finding:
    """Whether the kubelet answers, and advertises a device that the exporter can attribute."""
    if isinstance(answer, Exception):
        return Finding("kubelet", Level.FAIL, _one_line(answer))
    containers = {claim.container for claim in answer.held}
    containers |= {claim.container for claim in answer.dra}
    if answer.allocatable == {} and not containers:
        return Finding(
            "kubelet",
            Level.WARN,
            f"answers, but advertises none of {', '.join(patterns)}",
            "check that the device plugin runs; set resources if it uses other names",
        )
    allocated = len(answer.held) + len(answer.dra)
    what = f"answers: {allocated} devices are allocated to {len(containers)} containers"
    return Finding("kubelet", Level.OK, what)


def node_name(config: Config) -> Finding:
    if config.node:
        return Finding("node name", Level.OK, config.node)
    return Finding(
        "node name",
        Level.WARN,
        "not given, so series have no label node",
        "set NODE_NAME from the field spec.nodeName",
    )


def pid_namespace(root: Path) -> Finding:
    """Whether the processes that NVML lists can be looked up in ``/proc``."""
    if ProcessOwners(root / "proc").sees_host():
        return Finding("host PIDs", Level.OK, "in the host's PID namespace")
    return Finding(
        "host PIDs",
        Level.INFO,
        "not in the host's PID namespace, so containers that share a GPU can't be told apart",
        "if GPUs are shared, set hostPID: true",
    )


def pods_unwatched(config: Config, *, simulated: bool) -> Finding:
    """Say why the API server is not asked."""
    if simulated:
        return Finding("pods", Level.INFO, "simulated as well")
    without = "no workloads, no pod labels, no out-of-memory verdicts"
    if config.pod_watch == "off":
        return Finding("pods", Level.INFO, f"not watched, because pod-watch is off: {without}")
    if config.pod_watch == "on":
        todo = "set NODE_NAME from the field spec.nodeName"
        return Finding("pods", Level.FAIL, "pod-watch: on needs the node's name", todo)
    return Finding(
        "pods",
        Level.INFO,
        f"not watched without a service-account token and the node's name: {without}",
        "give the pod a service account that may list and watch pods, and NODE_NAME",
    )


def pods(answer: str | Exception | None) -> Finding:
    """Whether the API server lets the exporter watch this node's pods."""
    if isinstance(answer, Exception):
        return Finding("pods", Level.FAIL, _one_line(answer), _api_todo(answer, "pods"))
    return Finding("pods", Level.OK, f"the API server lets the exporter list and watch {answer}")


def resource_slices(answer: str | Exception | None) -> Finding:
    """Whether the API server shows what DRA drivers publish; ``None``: it has no such API."""
    if isinstance(answer, Exception):
        todo = _api_todo(answer, "resourceslices of resource.k8s.io, if GPUs are claimed by DRA")
        return Finding("DRA", Level.WARN, _one_line(answer), todo)
    if answer:
        return Finding("DRA", Level.OK, f"the API server lets the exporter list and watch {answer}")
    return Finding(
        "DRA", Level.INFO, "the API server has no ResourceSlices, so no GPU is allocated by DRA"
    )


def _api_todo(error: Exception, resources: str) -> str:
    match error.reason if isinstance(error, ApiError) else ApiFailure.TIMEOUT:
        case ApiFailure.FORBIDDEN:
            return f"let the service account's ClusterRole get, list and watch {resources}"
        case ApiFailure.UNAUTHORIZED | ApiFailure.NOT_CONFIGURED:
            return "give the pod a service account, and mount its token"
        case ApiFailure.UNAVAILABLE | ApiFailure.TIMEOUT | ApiFailure.UNTRUSTED:
            return (
                "check that the API server is up and that no network policy keeps the pod from it"
            )
        case _:
            return ""


def failed(name: str, error: Exception, environment: Mapping[str, str]) -> Finding:
    """Explain a call that raised, or that did not return (:class:`TimeoutError`)."""
    if isinstance(error, TimeoutError):
        return Finding(name, Level.FAIL, f"hangs: {_one_line(error)}", _HUNG)
    if isinstance(error, GpuError):
        what = f"{error.reason}: {_one_line(error)}"
        return Finding(name, Level.FAIL, what, _remedy(error.reason, environment))
    return Finding(name, Level.FAIL, f"{type(error).__name__}: {_one_line(error)}")


def _remedy(reason: Reason, environment: Mapping[str, str]) -> str:
    match reason:
        case Reason.LIBRARY_NOT_FOUND:
            return _give_gpus(environment)
        case Reason.NO_PERMISSION:
            return f"run as root, with the device nodes: {_give_gpus(environment)}"
        case _:
            return _REMEDIES.get(reason, "try nvidia-smi there")


def _give_gpus(environment: Mapping[str, str]) -> str:
    """Say how this pod, or this machine, gets the GPUs and the driver's library."""
    return _RUNTIME_CLASS if "KUBERNETES_SERVICE_HOST" in environment else _OUTSIDE


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
