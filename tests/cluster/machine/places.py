"""Where things are on this machine: what is kept from run to run, and what is not."""

import os
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
"""The checkout."""

WORK: Final = Path(tempfile.gettempdir(), "kube-gpu-exporter-cluster")
"""All that a cluster writes. It goes with the cluster."""

KUBECONFIG: Final = WORK / "kubeconfig"

CGROUP: Final = "kube-gpu-exporter-cluster"
"""The control group, in each hierarchy, below which the nodes' pods are."""


def kept() -> Path:
    """Return the folder of programs and images that later runs use again."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "kube-gpu-exporter")


def kubernetes_version() -> str:
    return os.environ.get("KUBERNETES", "v1.34.4")


def kubernetes() -> Path:
    """Return the folder of Kubernetes' programs."""
    return kept() / "kubernetes" / kubernetes_version()
