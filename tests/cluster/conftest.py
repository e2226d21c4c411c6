"""Tests on a real Kubernetes, collected only when asked for by their marker."""

import pytest

from tests.cluster import report
from tests.cluster.documented import blocks, here
from tests.cluster.machine import places
from tests.cluster.machine.cluster import Cluster
from tests.cluster.scrapes import NAMESPACE, Exporter


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return True if "cluster" not in config.option.markexpr else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if measured := report.lines():
        terminalreporter.section("measured on the cluster")
        for line in measured:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if not (places.WORK / "launcher").exists():
        pytest.fail("a cluster runs in namespaces of its own: make test-cluster")
    cluster = Cluster()
    cluster.start()
    cluster.kubectl(
        "label", "node", "--all", "kube-gpu-exporter/simulated-gpus=true", "--overwrite"
    )
    return cluster


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Exporter:
    """Install the exporter with Helm as the page says, with simulated GPUs."""
    if cluster.find("daemonset", "kube-gpu-exporter", NAMESPACE) is None:
        remove_namespace(cluster)
        (script,) = blocks("## 3. Or with Helm")
        cluster.shell(here(script))
    exporter = Exporter(cluster)
    exporter.until_sees_everything()
    return exporter


@pytest.fixture
def exporter(cluster: Cluster, installed: Exporter) -> Exporter:
    """Return the exporter of a node where no pod of another test is left."""
    cluster.kubectl(
        "delete", "pods,jobs,deployments", "--all", "--namespace=default", "--grace-period=0",
        "--force", "--timeout=120s",
    )  # fmt: skip
    installed.until(
        lambda: not [
            sample
            for sample in installed.samples("gpu_allocated_devices")
            if sample.value
        ],
        "nothing is allocated",
    )  # fmt: skip
    return installed


def remove_namespace(cluster: Cluster) -> None:
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
