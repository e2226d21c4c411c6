"""Scenario files: what happens on the simulated node, and when.

A scenario is YAML. Times are durations, such as ``90s``, ``1h30m`` or bare seconds, on the
scenario's own clock, which starts at 0 with the program and runs ``speed`` times as fast as real
time::

    description: What it shows.
    repeat: 10m                # start over after this time; without it, the end state stays

    gpus:                      # how devices are configured, where it differs from the profile
      - gpu: 3                 # an index, a list of them, or `all`
        sharing: time_sliced   # or mps; of the whole GPU, or of each of its slices
        replicas: 4
        renamed: true          # advertise as nvidia.com/gpu.shared
      - gpu: 5
        slices: [3g, 2g, 1g]   # MIG layout; 1c.3g are compute instances in one shared instance

    pods:
      - pod: llm-train
        namespace: research    # default: default
        container: main        # default: main
        gpu: [0, 1]            # all of them are allocated to the pod
        slice: 0               # the n-th slice of a GPU with MIG on
        shares: 1              # how many replicas of a shared device are allocated to the pod
        spread: each           # many pods instead: one for each device, or this many, in turn,
                               # each on the device with the fewest pods
        start: 0
        end: 9m                # or `duration`; default: the end of the scenario
        resource: nvidia.com/gpu   # default: the name that the device plugin would use
        exempt: underuse       # the pod's annotation kube-gpu-exporter/exempt; default: none
        workload: training     # or {kind: training, memory: 0.7, utilization: 0.9, period: 60s}

    faults:
      - fault: xid             # see FAULTS for all kinds and their parameters
        gpu: 1
        at: 2m
        code: 31
      - {fault: gpu_lost, gpu: 7, at: 6m, for: 60s}   # without `for`, the fault stays

With ``pods: cluster`` in place of a list, the pods are those to which the kubelet of a real node
gives the simulated devices, and a pod's annotation ``kube-gpu-exporter/simulate`` says what the pod
does there, such as ``utilization=20%-80%, memory=10Gi``: see docs/install.md.

Each entry may have ``profiles: [t4, h100]``, and is then used with these profiles only. Workloads
and their parameters are those of :mod:`exporter.gpus.simulated.workloads`. ``backoff`` restarts a
``leak`` or a ``host_leak`` after that time. A ``leak`` with ``silent: true`` leaves no message.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from exporter.document import (
    DocumentError,
    Entry,
    FileError,
    Value,
    format_duration,
    parse,
    read_file,
)
from exporter.gpus.simulated.annotation import read_workload
from exporter.gpus.simulated.profiles import PROFILES, Profile
from exporter.gpus.simulated.workloads import Workload
from exporter.model.claims import Container, Sharing
from exporter.model.readings import RECOVERY_ACTIONS

E = TypeVar("E")

FOREVER: Final = math.inf

FAULTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "xid": ("gpu", "code"),
        "ecc_corrected": ("gpu", "count", "location"),
        "ecc_uncorrected": ("gpu", "count", "location"),
        "row_remap": ("gpu", "count", "cause", "for"),
        "row_remap_failed": ("gpu", "for"),
        "nvlink_errors": ("gpu", "count", "error"),
        "recovery_action": ("gpu", "action", "for"),
        "thermal": ("gpu", "for"),
        "power_brake": ("gpu", "for"),
        "pcie_degraded": ("gpu", "for"),
        "gpu_lost": ("gpu", "for"),
        "gpu_hung": ("gpu", "for"),
        "mig_reconfigure": ("gpu", "slices", "for"),
        "driver_unloaded": ("version", "for"),
        "kubelet_down": ("for",),
    }
)
"""What can go wrong, and the parameters of each fault besides ``at``.

A fault with ``for`` lasts that long. ``row_remap`` counts remapped rows at once, and is pending
while it lasts. After ``driver_unloaded`` the driver may have another ``version``. ``gpu_lost`` also
reports XID 79.
"""


NVLINK_ERRORS: Final = ("replay", "recovery", "crc_flit", "crc_data")


@dataclass(frozen=True, slots=True)
class Setup:
    gpus: tuple[int, ...]
    place: Value
    slices: tuple[str, ...] | None = None
    sharing: Sharing | None = None
    replicas: int = 1
    renamed: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    container: Container
    gpus: tuple[int, ...]
    start: float
    end: float
    workload: Workload
    place: Value
    slice: int | None = None
    shares: int = 1
    spread: int | Literal["each"] | None = None
    resource: str | None = None
    exempt: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    at: float
    end: float
    """When it is over. It equals ``at`` for a fault that only happens once."""
    place: Value
    gpu: int | None = None
    code: int = 0
    count: int = 1
    location: str = "dram"
    cause: str = "uncorrectable"
    error: str = "replay"
    action: str = "none"
    slices: tuple[str, ...] = ()
    version: str = ""

    @property
    def lasts(self) -> bool:
        """Whether it goes on for a time, and does not only happen once."""
        return self.end > self.at


@dataclass(frozen=True, slots=True)
class Scenario:
    description: str
    repeat: float
    setups: tuple[Setup, ...]
    pods: tuple[Pod, ...]
    pods_of_cluster: bool
    """Whether the pods are those of a real kubelet. Then ``pods`` is empty."""
    faults: tuple[Fault, ...]


def scenario_names() -> tuple[str, ...]:
    """Return the names of the scenarios that come with the program."""
    return tuple(
        sorted(
            Path(entry.name).stem for entry in _packaged().iterdir() if entry.name.endswith(".yaml")
        )
    )


def load_scenario(source: str | Path, profile: Profile) -> Scenario:
    """Read a scenario by its name, or from a file, for a node of ``profile``.

    Raises :class:`DocumentError` with one line that says where and what, if the scenario can't be
    read or does not fit the node.
    """
    if isinstance(source, str) and source in scenario_names():
        path = f"{source}.yaml"
        content = _packaged().joinpath(path).read_bytes()
    else:
        path = str(source)
        try:
            content = read_file(Path(source))
        except FileError as error:
            names = ", ".join(scenario_names())
            message = f"{path}: {error}; scenarios by name are {names}"
            raise DocumentError(message) from error
    return read_scenario(parse(path, content), profile)


def read_scenario(root: Value, profile: Profile) -> Scenario:
    """Read a scenario from its document. Raises :class:`DocumentError`."""
    if root.is_nothing:
        raise root.error("the file is empty")
    return _Reader(profile).scenario(root.entry())


def _packaged() -> Traversable:
    return resources.files(__package__).joinpath("scenarios")


class _Reader:
    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._repeat = FOREVER
        # How each parameter of a fault is read, and its default; None: it has to be given.
        self._parameters: Mapping[str, tuple[Callable[[Value], Any], Any]] = {
            "gpu": (self._gpu, None),
            "code": (Value.count, None),
            "action": (lambda value: value.one_of(RECOVERY_ACTIONS), None),
            "slices": (_texts, None),
            "count": (Value.count, 1),
            "location": (lambda value: value.one_of(("dram", "sram")), "dram"),
            "cause": (
                lambda value: value.one_of(("correctable", "uncorrectable")),
                "uncorrectable",
            ),
            "error": (lambda value: value.one_of(NVLINK_ERRORS), "replay"),
            "version": (Value.text, ""),
        }

    def scenario(self, root: Entry) -> Scenario:
        description = root.get("description", Value.text, "")
        self._repeat = root.get("repeat", Value.seconds, FOREVER)
        if self._repeat == 0:
            raise root.at("repeat").error("repeat: has to be more than 0")
        setups = root.get("gpus", lambda value: self._entries(value, self._setup), ())
        pods = root.get("pods", self._pods, ())
        faults = root.get("faults", lambda value: self._entries(value, self._fault), ())
        root.finish()
        for fault in faults:
            if pods is None and fault.kind == "kubelet_down":
                raise fault.place.error("a cluster's kubelet is real: no scenario has it down")
        return Scenario(description, self._repeat, setups, pods or (), pods is None, faults)

    def _entries(self, value: Value, read: Callable[[Entry], E]) -> tuple[E, ...]:
        entries = []
        for item in value.items():
            entry = item.entry()
            profiles = entry.get("profiles", _names, tuple(PROFILES))
            # Read before it is left out, so that a mistake is found on any profile.
            made = read(entry)
            entry.finish()
            if self._profile.name in profiles:
                entries.append(made)
        return tuple(entries)

    def _setup(self, entry: Entry) -> Setup:
        gpus = entry.take("gpu", self._gpus)
        slices = entry.get("slices", _texts, None)
        sharing = entry.get("sharing", lambda v: Sharing(v.one_of(("time_sliced", "mps"))), None)
        if not sharing and (entry.has("replicas") or entry.has("renamed")):
            raise entry.error("'replicas' and 'renamed' need 'sharing'")
        return Setup(
            gpus=gpus,
            place=entry,
            slices=slices,
            sharing=sharing,
            replicas=entry.take("replicas", _replicas) if sharing else 1,
            renamed=entry.get("renamed", Value.boolean, default=False),
        )

    def _pods(self, value: Value) -> tuple[Pod, ...] | None:
        return None if value.is_text("cluster") else self._entries(value, self._pod)

    def _pod(self, entry: Entry) -> Pod:
        start = entry.get("start", Value.seconds, 0.0)
        end = entry.get("end", Value.seconds, self._repeat)
        duration = entry.get("duration", Value.seconds, None)
        if duration is not None:
            if entry.has("end"):
                raise entry.at("duration").error("give 'end' or 'duration', not both")
            end = start + duration
        self._check_times(entry, start, end)
        workload = entry.take("workload", read_workload)
        if workload.leaks and workload.backoff is None:
            end = min(end, start + workload.period)
        return Pod(
            container=Container(
                namespace=entry.get("namespace", Value.text, "default"),
                pod=entry.take("pod", Value.text),
                name=entry.get("container", Value.text, "main"),
            ),
            gpus=entry.take("gpu", self._gpus),
            start=start,
            end=end,
            workload=workload,
            place=entry,
            slice=entry.get("slice", Value.index, None),
            shares=entry.get("shares", Value.count, 1),
            spread=entry.get("spread", _spread, None),
            resource=entry.get("resource", Value.text, None),
            exempt=entry.get("exempt", Value.text, ""),
        )

    def _fault(self, entry: Entry) -> Fault:
        kind = entry.take("fault", lambda value: value.one_of(tuple(FAULTS)))
        at = entry.take("at", Value.seconds)
        end = at
        if "for" in FAULTS[kind]:
            end = entry.get("for", lambda value: at + value.seconds(), self._repeat)
        self._check_times(entry, at, max(end, math.nextafter(at, FOREVER)))
        fault = Fault(kind, at, end, entry)
        given = {
            name: entry.take(name, read) if default is None else entry.get(name, read, default)
            for name, (read, default) in self._parameters.items()
            if name in FAULTS[kind]
        }
        return replace(fault, **given)

    def _gpu(self, value: Value) -> int:
        index = value.index()
        if index >= self._profile.gpu_count:
            raise value.error(f"there is no GPU {index}, only 0 to {self._profile.gpu_count - 1}")
        return index

    def _gpus(self, value: Value) -> tuple[int, ...]:
        if value.is_text("all"):
            return tuple(range(self._profile.gpu_count))
        gpus = tuple(self._gpu(item) for item in value.item_or_items())
        if not gpus:
            raise value.error("gpu: the list is empty")
        return gpus

    def _check_times(self, entry: Entry, start: float, end: float) -> None:
        if end <= start:
            raise entry.error("ends before it starts")
        if self._repeat < FOREVER and (end > self._repeat or start >= self._repeat):
            raise entry.error(
                f"goes on after the scenario repeats, at {format_duration(self._repeat)}"
            )


def _names(value: Value) -> tuple[str, ...]:
    return tuple(item.one_of(tuple(PROFILES)) for item in value.item_or_items())


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(item.text() for item in value.items())


def _replicas(value: Value) -> int:
    # Each is a device id that the simulated kubelet lists.
    return value.count(most=1000)


def _spread(value: Value) -> int | Literal["each"]:
    return "each" if value.is_text("each") else value.count()
