"""The options, each declared once, as the fields of :class:`Config`."""
# ruff: noqa: RUF009  (the calls are what declares a field)

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import click

from exporter.config.values import (
    Address,
    Duration,
    FilePath,
    LabelKeys,
    ListenAddress,
    MetricNames,
    Patterns,
    Text,
    WholeNumber,
)
from exporter.document import format_duration

ENVIRONMENT_PREFIX: Final = "GPU_EXPORTER_"

Section = Literal[
    "General",
    "Access",
    "GPUs",
    "Simulated node",
    "Sampling",
    "Kubelet",
    "Pods",
    "Containers",
    "Metrics",
    "Logs",
]

BackendChoice = Literal["nvml", "simulated", "auto"]
ProfileName = Literal["t4", "a100-mig", "h100", "h200-mixed"]
KubeletChoice = Literal["auto", "on", "off"]
PodWatchChoice = Literal["auto", "on", "off"]
Switch = Literal["on", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option beside its value. Its names follow from the field's name."""

    name: str
    section: Section
    kind: click.ParamType[Any]
    default: Any
    help: str
    unit: str = ""
    multiple: bool = False
    in_file: bool = True
    also_from: tuple[str, ...] = ()
    """Further environment variables, which are read when the option's own is not set."""

    @property
    def key(self) -> str:
        """Key in the YAML file."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    @property
    def environment(self) -> tuple[str, ...]:
        return (ENVIRONMENT_PREFIX + self.name.upper(), *self.also_from)

    def text(self, value: Any) -> str:
        """Write a value of this option as a user would write it in a flag."""
        if isinstance(self.kind, Duration):
            return format_duration(value)
        if self.multiple:
            return ",".join(value)
        return "" if value is None else str(value)


def _option(
    default: T, section: Section, kind: click.ParamType[Any], meaning: str, **more: Any
) -> T:
    """Declare a field of :class:`Config` and the option that fills it."""
    metadata = {"section": section, "kind": kind, "help": meaning, **more}
    return field(default=default, metadata=metadata)


def _duration(
    default: float, section: Section, minimum: float, maximum: float, help_: str
) -> float:
    return _option(default, section, Duration(minimum, maximum), help_, unit="seconds")


def _file(section: Section, help_: str) -> Path | None:
    return _option(None, section, FilePath(), help_)


def _choice(choices: Any) -> click.Choice[str]:
    return click.Choice(get_args(choices), case_sensitive=False)


@dataclass(frozen=True, slots=True)
class Config:
    """How the program runs. Durations are in seconds.

    Values from :func:`exporter.config.sources.resolve` are in range and fit each other. A
    configuration that is made directly is not checked.
    """

    config: Path | None = _option(
        None,
        "General",
        FilePath(),
        "YAML file to read options from.",
        in_file=False,
    )
    listen: Address = _option(
        Address("", 9400),
        "General",
        ListenAddress(),
        "Address to serve HTTP on: :port for every address of the node (IPv4, and IPv6 where the "
        "node has it), host:port or [ipv6]:port for one address. With port 0 the kernel chooses a "
        "free port.",
    )
    node: str = _option(
        "",
        "General",
        Text(),
        "Name of the node, which becomes the label node of every series. Without a name, series "
        "have no such label.",
        also_from=("NODE_NAME",),
    )

    tls_cert: Path | None = _file(
        "Access",
        "File with the certificate to serve HTTPS with, in PEM, followed by its intermediates. The "
        "exporter looks at the file for each new connection, so that it can be replaced at any "
        "time.",
    )
    tls_key: Path | None = _file(
        "Access", "File with the private key of tls-cert, in PEM, not encrypted."
    )
    basic_auth_users: Path | None = _file(
        "Access",
        "File with the users who may scrape: a line name:hash for each, with a bcrypt hash, as "
        "htpasswd -nB name prints it. The file can be replaced at any time. /healthz and /readyz "
        "stay open, for probes. Without TLS, passwords can be read on the way.",
    )

    backend: BackendChoice = _option(
        "nvml",
        "GPUs",
        _choice(BackendChoice),
        "Where readings come from: NVIDIA's driver, through NVML, or a simulated node. auto means "
        "nvml where a driver answers at the start, else simulated; it is for trying the exporter.",
    )

    profile: ProfileName = _option(
        "h200-mixed",
        "Simulated node",
        _choice(ProfileName),
        "Model of the eight GPUs of the simulated node. In a100-mig and h200-mixed, some are in "
        "MIG mode.",
    )
    scenario: str = _option(
        "default",
        "Simulated node",
        click.STRING,
        "What happens on the simulated node: the name of a scenario, or the path of a YAML file.",
    )
    seed: int = _option(
        0,
        "Simulated node",
        WholeNumber(min=0),
        "Seed of everything random on the simulated node. The same seed gives the same node.",
    )
    speed: int = _option(
        1,
        "Simulated node",
        WholeNumber(min=1, max=3600),
        "How many times faster the scenario of the simulated node passes than the clock.",
    )

    fast_interval: float = _duration(
        1.0,
        "Sampling",
        0.01,
        10.0,
        "Time between reads of memory and processes. It should be short enough to see the peak "
        "before a container runs out of GPU memory.",
    )
    full_interval: float = _duration(
        5.0,
        "Sampling",
        0.1,
        10.0,
        "Time between reads of utilization, activity, power, clocks and temperatures. It is at "
        "most 10s, because the driver keeps its samples of utilization for 14 seconds.",
    )
    slow_interval: float = _duration(
        30.0,
        "Sampling",
        0.1,
        _HOUR,
        "Time between reads of what is expensive or hardly changes: energy, ECC errors, remapped "
        "rows, links.",
    )
    read_deadline: float = _duration(
        3.0,
        "Sampling",
        0.1,
        _MINUTE,
        "Time after which a GPU counts as hung, if a read of it has not returned.",
    )
    peak_window: float = _duration(
        60.0,
        "Sampling",
        1.0,
        _HOUR,
        "Time over which peaks are taken. If it is shorter than the scrape interval, peaks between "
        "two scrapes are missed.",
    )

    kubelet: KubeletChoice = _option(
        "auto",
        "Kubelet",
        _choice(KubeletChoice),
        "Whether to ask the kubelet which device is allocated to which container. auto asks where "
        "the directory of the socket exists, and on a simulated node.",
    )
    kubelet_socket: Path = _option(
        Path("/var/lib/kubelet/pod-resources/kubelet.sock"),
        "Kubelet",
        FilePath(),
        "Socket of the kubelet's pod-resources API.",
    )
    kubelet_interval: float = _duration(
        5.0,
        "Kubelet",
        0.1,
        30.0,
        "Time between questions to the kubelet. It is at most 30s: after a longer time, the end of "
        "a container could not be attributed to the right one of two pods that follow each other.",
    )
    kubelet_timeout: float = _duration(
        5.0, "Kubelet", 0.1, _MINUTE, "Time that the kubelet has to answer."
    )

    pod_watch: PodWatchChoice = _option(
        "auto",
        "Pods",
        _choice(PodWatchChoice),
        "Whether to watch this node's pods on the API server. Workloads, pod labels, the ends of "
        "containers, processes on shared GPUs and devices allocated through DRA are known from "
        "there. auto watches in a cluster, where there is a service-account token and the node's "
        "name is given, and on a simulated node. Outside a cluster, on uses the kubeconfig.",
    )
    pod_labels: tuple[str, ...] = _option(
        (),
        "Pods",
        LabelKeys(),
        "Keys of pod labels to export with gpu_allocation_info: team becomes its label label_team. "
        "The option may be given several times, or with keys separated by commas.",
        multiple=True,
    )
    pod_events: Switch = _option(
        "off",
        "Pods",
        _choice(Switch),
        "Whether to post a Kubernetes Event on a pod when a container of it ran out of GPU memory,"
        " or ended of another cause that the exporter knows and somebody can act on.",
    )

    resources: tuple[str, ...] = _option(
        ("nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-*"),
        "Containers",
        Patterns(),
        "Resources whose devices are GPUs, slices, or shares of them; * stands for anything. The "
        "option may be given several times, or with names separated by commas. What is given "
        "replaces the default.",
        multiple=True,
    )
    claims_grace: float = _duration(
        60.0,
        "Containers",
        0.0,
        _HOUR,
        "How long the kubelet's last answer is used while the kubelet does not answer. After that "
        "time, the series of containers vanish.",
    )
    ended_grace: float = _duration(
        60.0,
        "Containers",
        0.0,
        _HOUR,
        "How long counters of a terminated pod are served after its end. It should be longer than "
        "the scrape interval, or the pod's last seconds are missed.",
    )

    metrics: tuple[str, ...] = _option(
        ("standard",),
        "Metrics",
        MetricNames(),
        "Metrics to export: a profile (minimal, standard or full), then names of metrics to add, "
        "and names behind a minus sign to leave out. * in a name stands for anything. "
        "docs/metrics.md shows the profile of each metric. The option may be given several times, "
        "or with names separated by commas.",
        multiple=True,
    )

    log_level: LogLevel = _option(
        "info", "Logs", _choice(LogLevel), "Lowest severity of the records that are written."
    )
    log_format: LogFormat = _option(
        "text",
        "Logs",
        _choice(LogFormat),
        "How records are written: as text for people, or as JSON objects. Either way a record is "
        "one line on standard error.",
    )


OPTIONS: Final = {
    declared.name: Option(name=declared.name, default=declared.default, **declared.metadata)
    for declared in fields(Config)
}

ORDERED: Final = (
    ("fast_interval", "full_interval"),
    ("full_interval", "slow_interval"),
    ("full_interval", "peak_window"),
)
"""Pairs of options of which the first must not be longer than the second."""

TOGETHER: Final = ("tls_cert", "tls_key")
"""Options that need each other."""
