"""The exporter is installed, upgraded and removed as the pages say."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter import REGISTRY
from tests.cluster.conftest import remove_namespace
from tests.cluster.documented import blocks, here
from tests.cluster.machine import places
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.waiting import until
from tests.cluster.scrapes import NAMESPACE, Exporter, ask

pytestmark = pytest.mark.cluster

KUSTOMIZE = places.ROOT / "daemonset" / "kustomize"
OVERLAYS = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())
OURS = "clusterrole,clusterrolebinding,priorityclass"


@pytest.fixture
def empty(cluster: Cluster) -> Cluster:
    """Return a cluster on which nothing of ours is."""
    shutil.rmtree(places.WORK / "mine", ignore_errors=True)
    if cluster.find("namespace", NAMESPACE):
        cluster.shell(f"helm uninstall -n {NAMESPACE} kube-gpu-exporter || true")
        remove_namespace(cluster)
    cluster.kubectl("delete", OURS, "kube-gpu-exporter", "--ignore-not-found")
    return cluster


def left(cluster: Cluster) -> list[str]:
    """Return what is ours in the whole cluster."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    listed = [kind for kind in kinds if kind.partition(".")[0] != "events"]
    found = cluster.kubectl(
        "get", ",".join(listed), "--all-namespaces", "--output=name", "--ignore-not-found"
    ).stdout
    return [name for name in found.splitlines() if "gpu" in name or NAMESPACE in name]


@pytest.fixture(scope="module")
def crds(cluster: Cluster) -> None:
    """Bring what the Prometheus operator and KEDA would have brought."""
    for path in sorted((places.ROOT / "tests/daemonset/crds").glob("*.yaml")):
        cluster.kubectl("apply", "--server-side", f"--filename={path}")


def test_helm_as_the_page_has_it(empty: Cluster) -> None:
    cluster = empty
    before = left(cluster)
    (script,) = blocks("## 3. Or with Helm")
    cluster.shell(here(script))
    Exporter(cluster).until_sees_everything()

    (look,) = blocks("## Does it work?")
    doctor, forward, curl = look.strip().splitlines()
    told = cluster.shell(doctor)
    assert re.search(r"^OK +kubelet +answers", told, re.MULTILINE), told
    assert "FAIL" not in told, told
    with forwarding(cluster, forward) as url:
        assert curl == f"curl {url.removeprefix('http://')}/metrics"
        assert 'gpu_exporter_build_info{backend="simulated"' in ask(f"{url}/metrics")[1]
    assert "Succeeded" in cluster.shell(
        f"helm test -n {NAMESPACE} kube-gpu-exporter --timeout=120s"
    )

    # The same command on a new chart; what it changes is there, and back after a rollback.
    upgrade = here(script).partition("\n")[2].partition("\n")[2]
    cluster.shell(upgrade.replace("--set ", "--set podLabels.release=next --set "))
    assert pod_labels(cluster)["release"] == "next"
    cluster.shell(
        f"helm rollback -n {NAMESPACE} kube-gpu-exporter --wait --timeout=180s;"
        f"kubectl -n {NAMESPACE} rollout status daemonset/kube-gpu-exporter --timeout=180s"
    )
    assert "release" not in pod_labels(cluster)

    cluster.shell(f"helm uninstall -n {NAMESPACE} kube-gpu-exporter --wait --timeout=120s")
    remove_namespace(cluster)
    until(lambda: left(cluster) == before, "nothing is left", show=lambda: str(left(cluster)))


def test_kustomize_as_the_page_has_it(empty: Cluster, crds: None) -> None:
    cluster = empty
    before = left(cluster)
    mine = places.WORK / "mine"
    mine.mkdir()
    (text,) = blocks("## 2. With kustomize: the overlay", "yaml")
    text = text.replace("path/to/daemonset", os.path.relpath(places.ROOT / "daemonset", mine))
    (mine / "kustomization.yaml").write_text(
        text.replace("overlays/gpu-operator", "overlays/simulated").replace(
            "REGISTRY/", f"{REGISTRY}/"
        )
    )
    (script,) = blocks("## 2. With kustomize: the overlay")
    cluster.shell(here(script), mine)
    exporter = Exporter(cluster)
    exporter.until_sees_everything()
    for kind, count in (("podmonitor", 1), ("prometheusrule", 1), ("configmap", 7)):
        found = cluster.list(kind, f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name")
        assert len(found) == count, kind
    (uninstall,) = blocks("## Uninstalling")
    cluster.shell(uninstall.split(" #", 1)[0], mine)
    until(lambda: left(cluster) == before, "nothing is left", show=lambda: str(left(cluster)))


def test_without_a_gpu_as_the_page_has_it(empty: Cluster) -> None:
    """The way on kind and minikube, from where the image has been loaded."""
    cluster = empty
    *_, then = blocks("## Without a GPU")
    *commands, forward = here(then).strip().splitlines()
    cluster.shell("\n".join(commands))
    exporter = Exporter(cluster)
    exporter.address()
    exporter.until_mapped("train", 2)
    exporter.until_mapped("forgotten")
    exporter.until(
        lambda: len(exporter.samples("gpu_allocation_info", workload="serve")) == 2,
        "both of the Deployment's pods are mapped",
    )
    exporter.until(
        lambda: exporter.value(
            "gpu_container_oom_events_total", pod="leaky", confidence="confirmed"
        ),
        "the leak has ended as its words say",
        seconds=180,
    )
    assert exporter.is_idle("forgotten")
    with forwarding(cluster, forward) as url:
        status, page = ask(f"{url}/")
        assert status == 200
        assert "leaky" in page
    cluster.kubectl(
        "delete", f"--filename={places.ROOT}/daemonset/examples/simulated-pods.yaml",
        "--timeout=120s",
    )  # fmt: skip
    cluster.kubectl("delete", f"--kustomize={KUSTOMIZE}/overlays/simulated", "--timeout=120s")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_api_server_takes_each_overlay(cluster: Cluster, crds: None, name: str) -> None:
    cluster.kubectl("create", "namespace", NAMESPACE, check=False)
    cluster.kubectl(
        "apply", "--server-side", "--dry-run=server", f"--kustomize={KUSTOMIZE}/overlays/{name}"
    )


def test_without_a_driver_it_says_so_and_goes_on(empty: Cluster) -> None:
    """The base, as it is: the node has no GPU, and the exporter looks for one for ever."""
    cluster = empty
    cluster.kubectl("apply", "--server-side", f"--kustomize={KUSTOMIZE}/base")
    exporter = Exporter(cluster)

    def missing() -> dict[str, str]:
        exporter.address()
        status, text = exporter.get("/readyz")
        checks = json.loads(text)["checks"] if status else []
        return {check["name"]: check["reason"] for check in checks if not check["ok"]}

    until(
        lambda: missing().keys() == {"nvml", "gpus", "events", "processes"},
        "the driver is all that is missing",
        show=lambda: str(missing()),
    )
    assert exporter.get("/readyz")[0] == 503
    assert "NVML Shared Library Not Found" in missing()["nvml"]
    assert exporter.get("/healthz")[0] == 200
    assert exporter.value("gpu_exporter_source_up", source="kubelet") == 1
    assert exporter.value("gpu_exporter_source_up", source="kubernetes") == 1
    cluster.kubectl("delete", f"--kustomize={KUSTOMIZE}/base", "--timeout=120s")


def test_a_namespace_that_forbids_host_paths_says_so_by_events(empty: Cluster) -> None:
    cluster = empty
    (script,) = blocks("## 3. Or with Helm")
    script = here(script).replace("enforce=privileged", "enforce=baseline")
    cluster.shell("\n".join(line for line in script.splitlines() if "rollout" not in line))
    words = "violates PodSecurity"

    def told() -> bool:
        events = cluster.list("events", f"--namespace={NAMESPACE}")
        return any(e["reason"] == "FailedCreate" and words in e["message"] for e in events)

    until(told, "the DaemonSet's events say that its pods are not admitted")
    cluster.shell(f"helm uninstall -n {NAMESPACE} kube-gpu-exporter")
    remove_namespace(cluster)


@contextmanager
def forwarding(cluster: Cluster, command: str) -> Iterator[str]:
    """Run a ``kubectl port-forward``; give the URL that it leads to."""
    with subprocess.Popen(
        shlex.split(command),
        executable=Path(sys.executable).with_name("kubectl"),
        env=cluster.environment(),
        stdout=subprocess.DEVNULL,
    ) as process:
        url = f"http://localhost:{command.rsplit(maxsplit=1)[-1]}"
        until(lambda: ask(f"{url}/healthz")[0] == 200, "the port is forwarded")
        yield url
        process.terminate()


def pod_labels(cluster: Cluster) -> dict[str, str]:
    (pod,) = cluster.list(
        "pods",
        f"--namespace={NAMESPACE}",
        "--selector=app.kubernetes.io/name=kube-gpu-exporter",
        "--field-selector=status.phase=Running",
    )
    labels: dict[str, str] = pod["metadata"]["labels"]
    return labels
