"""Brings the programs that a cluster needs: Debian's packages, and Kubernetes from Go modules.

Kubernetes is published as one module, whose staging modules are published beside it. A module of
our own requires the first and puts the second in the places that its ``replace`` lines leave open.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from setup import cluster_tools, step
from tests.cluster.machine import places

PACKAGES: Final = (
    "containerd,ctr:containerd",
    "runc:runc",
    "etcd:etcd-server",
    "busybox:busybox-static",
    "iptables:iptables",
    "ip:iproute2",
    "openssl:openssl",
)
CNI: Final = Path("/usr/lib/cni")

KUBERNETES: Final = (
    "kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)
_PROMETHEUS: Final = "github.com/prometheus/prometheus"
_PROMETHEUS_VERSION: Final = "v0.316.0"
"""Prometheus 3.16, by its number as a Go module."""
_FREE_BYTES: Final = 6 * 10**9
"""What a build takes, nearly all of it for Go's cache."""


def prepare() -> None:
    """See to it that every program is there. Raises :class:`SystemExit`, in one line, if not."""
    if os.geteuid():
        raise SystemExit("a cluster needs root: sudo make test-cluster")
    packages = [*PACKAGES, *([] if CNI.is_dir() else ["no-cni:containernetworking-plugins"])]
    if subprocess.run([places.ROOT / "setup/system-packages", *packages], check=False).returncode:
        raise SystemExit("a cluster needs the packages above")
    cluster_tools.install(places.ROOT / ".venv" / "bin")
    build(
        "k8s.io/kubernetes",
        places.kubernetes_version(),
        [f"cmd/{name}" for name in KUBERNETES],
        places.kubernetes(),
    )
    # Of all ways to find targets it gets the one that is used here: the others are most of it.
    tags = "remove_all_sd,enable_kubernetes_sd"
    build(_PROMETHEUS, _PROMETHEUS_VERSION, ["cmd/prometheus"], prometheus(), tags=tags)


def prometheus() -> Path:
    """Return the folder of a Prometheus: Debian's is built without finding pods."""
    return places.kept() / "prometheus" / _PROMETHEUS_VERSION


def build(
    module: str, version: str, programs: Sequence[str], target: Path, *, tags: str = ""
) -> None:
    """Build ``programs`` of a Go module into ``target``, unless they are there."""
    names = [program.rpartition("/")[2] for program in programs]
    if all((target / name).exists() for name in names):
        return
    if not shutil.which("go"):
        raise SystemExit(f"{module} is built from source: install Go 1.24 or newer")
    target.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(target.parent).free < _FREE_BYTES:
        raise SystemExit(f"{module} needs 6 GB free in {target.parent} to build")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        source, made = Path(folder, "source"), Path(folder, "made")
        source.mkdir()
        _write_module(module, version, source)
        try:
            step.run(
                f"building {', '.join(names)} {version}: minutes, once",
                [
                    *("nice", "-n", "19", "env", "CGO_ENABLED=0"),
                    *("go", "build", "-mod=mod", "-trimpath", "-tags", tags),
                    *("-ldflags", _link_flags(version)),
                    *("-o", f"{made}/", *(f"{module}/{program}" for program in programs)),
                ],
                folder=source,
                progress=lambda line: line.rstrip() if line.startswith("go: down") else None,
            )
        except step.StepError as error:
            raise SystemExit(str(error)) from None
        # All of them or none: a build that was broken off leaves nothing to be taken for one.
        shutil.rmtree(target, ignore_errors=True)
        made.replace(target)


def _write_module(module: str, version: str, folder: Path) -> None:
    told = subprocess.run(
        ["go", "mod", "download", "-json", f"{module}@{version}"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(told.stdout or "{}")
    if "Dir" not in answer:
        why = answer.get("Error") or told.stderr.strip()
        raise SystemExit(f"{module} {version} can't be downloaded: {why}")
    origin = Path(answer["Dir"])
    text = (origin / "go.mod").read_text()
    staged = re.findall(r"^\s*(\S+) => \./staging", text, re.MULTILINE)
    lines = [
        "module kube-gpu-exporter.test/programs",
        *re.findall(r"^go .*$", text, re.MULTILINE),
        *re.findall(r"^godebug .*$", text, re.MULTILINE),
        f"require {module} {version}",
        *(f"replace {name} => {name} {version.replace('v1.', 'v0.', 1)}" for name in staged),
        *re.findall(r"^replace \S+ => [^.\s]\S* \S+$", text, re.MULTILINE),
    ]
    (folder / "go.mod").write_text("\n".join(lines) + "\n")
    shutil.copyfile(origin / "go.sum", folder / "go.sum")


def _link_flags(version: str) -> str:
    """Return linker's flags that say the version: without it, feature gates and skew are off."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for name, value in values.items():
            flags += ["-X", f"{package}.{name}={value}"]
    return " ".join(flags)
