"""HTTPS and passwords by Secrets, renewed while the exporter runs."""

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from tests.cluster.machine import places
from tests.cluster.machine.cluster import Cluster
from tests.cluster.machine.identities import self_signed
from tests.cluster.machine.waiting import until
from tests.cluster.scrapes import NAMESPACE, Exporter, ask

pytestmark = pytest.mark.cluster

NAME: Final = "exporter.test"
RENEWED_SECONDS: Final = 240.0
"""A kubelet writes a changed Secret into a pod within about two minutes."""


def certificate(folder: Path, serial: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    self_signed(folder / serial, NAME, [f"DNS:{NAME}"])
    return folder / f"{serial}.crt"


def put_secret(cluster: Cluster, kind: str, name: str, *arguments: str) -> None:
    made = cluster.kubectl(
        "create", "secret", kind, name, f"--namespace={NAMESPACE}", *arguments,
        "--dry-run=client", "--output=json",
    ).stdout  # fmt: skip
    cluster.kubectl("apply", "--filename=-", stdin=made)


def put_certificate(cluster: Cluster, signed: Path) -> None:
    files = (f"--cert={signed}", f"--key={signed.with_suffix('.key')}")
    put_secret(cluster, "tls", "gpu-exporter-tls", *files)


def put_password(cluster: Cluster, password: str) -> None:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    put_secret(
        cluster, "generic", "gpu-exporter-users", f"--from-literal=users=prometheus:{hashed}"
    )


@pytest.fixture
def secured(cluster: Cluster, installed: Exporter) -> Iterator[Path]:
    """Give the folder of the certificate with which the exporter serves."""
    folder = places.WORK / "served"
    put_certificate(cluster, certificate(folder, "first"))
    put_password(cluster, "one")
    values = (
        "tls.secretName=gpu-exporter-tls,basicAuth.secretName=gpu-exporter-users",
        "tls.secretName=,basicAuth.secretName=",
    )
    upgrade = (
        f"helm upgrade kube-gpu-exporter daemonset/chart --namespace {NAMESPACE}"
        " --reset-then-reuse-values --set {};"
        f" kubectl -n {NAMESPACE} rollout status daemonset/kube-gpu-exporter --timeout=180s"
    )
    cluster.shell(upgrade.format(values[0]))
    yield folder
    cluster.shell(upgrade.format(values[1]))
    installed.until_sees_everything()


def test_a_certificate_and_a_password_are_renewed_without_a_restart(
    cluster: Cluster, installed: Exporter, secured: Path
) -> None:
    address = installed.address()

    def status(signed: str, password: str | None, path: str = "/metrics") -> int:
        trust = ssl.create_default_context(cafile=str(secured / f"{signed}.crt"))
        trust.check_hostname = False  # a pod is asked by its address
        login = base64.b64encode(f"prometheus:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {login}"} if password else {}
        return ask(f"https://{address}:9400{path}", trust=trust, headers=headers)[0]

    until(lambda: status("first", "one") == 200, "the first certificate and password serve")
    assert status("first", None) == 401
    assert status("first", "two") == 401
    # Probes know no password.
    assert status("first", None, "/healthz") == 200
    assert ask(f"http://{address}:9400/metrics")[0] == 0
    cluster.shell(f"helm test -n {NAMESPACE} kube-gpu-exporter --timeout=120s")

    put_certificate(cluster, certificate(secured, "second"))
    put_password(cluster, "two")
    until(
        lambda: status("second", "two") == 200,
        "the renewed certificate and password serve",
        seconds=RENEWED_SECONDS,
        poll=1.0,
    )
    assert status("second", "one") == 401
    assert status("first", "two") == 0
    (pod,) = cluster.list(
        "pods", f"--namespace={NAMESPACE}", "--selector=app.kubernetes.io/name=kube-gpu-exporter"
    )
    assert pod["status"]["podIP"] == address
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
