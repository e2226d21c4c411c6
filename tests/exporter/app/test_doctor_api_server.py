"""What ``doctor`` finds out about the API server."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.app import checks, doctor
from exporter.app.api_server import watches_pods
from exporter.app.checks import Finding, Level
from exporter.config import Config
from exporter.config.options import PodWatchChoice
from exporter.gpus import GpuError
from exporter.kubernetes.access import ApiAccess
from exporter.kubernetes.failures import ApiError, ApiFailure
from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from exporter.model.readings import Reason
from tests.doubles.api_manifests import NODE, manifest
from tests.doubles.doctored_node import FakeBackend, write_node

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_node(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(node=NODE, kubelet_socket=tmp_path / "gone/kubelet.sock")


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


async def asked(
    server: SimulatedApiServer, config: Config, root: Path, patience: float = 5.0
) -> dict[str, Finding]:
    def ask() -> list[Finding]:
        return list(
            doctor.examine(
                config,
                FakeBackend(error=GpuError(Reason.LIBRARY_NOT_FOUND, "no libnvidia-ml.so.1")),
                environment=IN_CLUSTER,
                root=root,
                patience=patience,
                access=lambda: ApiAccess.at(server.url),
            )
        )

    return {finding.name: finding for finding in await asyncio.to_thread(ask)}


async def test_an_api_server_that_lets_us_follow_pods(
    server: SimulatedApiServer, config: Config, root: Path
) -> None:
    server.put("pods", manifest("a"))
    findings = await asked(server, config, root)
    assert (findings["pods"].level, findings["DRA"].level) == (Level.OK, Level.OK)
    assert server.calls == {"list": 2, "watch": 2}
    assert all(query["fieldSelector"] == f"spec.nodeName={NODE}" for query in server.queries)


async def test_an_api_server_without_resource_slices(config: Config, root: Path) -> None:
    async with SimulatedApiServer(versions=frozenset()) as server:
        findings = await asked(server, config, root)
    assert (findings["pods"].level, findings["DRA"].level) == (Level.OK, Level.INFO)


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_rights_that_are_missing_are_named(
    server: SimulatedApiServer, config: Config, root: Path, verb: str
) -> None:
    server.fault = Fault(status=403, on=frozenset({verb}))
    findings = await asked(server, config, root)
    assert findings["pods"].level is Level.FAIL
    assert "403" in findings["pods"].what
    assert findings["pods"].todo == (
        "let the service account's ClusterRole get, list and watch pods"
    )
    assert "DRA" not in findings


async def test_resource_slices_that_may_not_be_listed(
    server: SimulatedApiServer, config: Config, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> str:
        raise ApiError(ApiFailure.FORBIDDEN, "403")

    monkeypatch.setattr(doctor, "try_resource_slices", refuse)
    findings = await asked(server, config, root)
    assert findings["DRA"].level is Level.WARN
    assert "list and watch resourceslices of resource.k8s.io" in findings["DRA"].todo


async def test_an_api_server_that_is_not_there(
    server: SimulatedApiServer, config: Config, root: Path
) -> None:
    await server.stop()
    finding = (await asked(server, config, root))["pods"]
    assert finding.level is Level.FAIL
    assert "no connection to the API server" in finding.what
    assert "network policy" in finding.todo


async def test_an_api_server_that_hangs_does_not_hang_us(
    server: SimulatedApiServer, config: Config, root: Path
) -> None:
    server.fault = Fault(hangs=True)
    start = time.monotonic()
    finding = (await asked(server, config, root, patience=0.5))["pods"]
    assert time.monotonic() - start < 5
    assert (finding.level, finding.what) == (Level.FAIL, "no answer for 0.5s")


@pytest.mark.parametrize(
    ("pod_watch", "node", "level", "what"),
    [
        ("off", NODE, Level.INFO, "pod-watch is off"),
        ("on", "", Level.FAIL, "needs the node's name"),
        ("auto", "", Level.INFO, "not watched without"),
    ],
)
def test_an_api_server_that_is_not_asked(
    pod_watch: PodWatchChoice, node: str, level: Level, what: str
) -> None:
    config = Config(pod_watch=pod_watch, node=node)
    finding = checks.pods_unwatched(config, simulated=False)
    assert finding.level is level
    assert what in finding.what


def test_pods_are_watched_where_they_can_be(root: Path, tmp_path: Path) -> None:
    config = Config(node=NODE)
    assert watches_pods(config, IN_CLUSTER, root)
    assert not watches_pods(config, {}, root)
    assert not watches_pods(config, IN_CLUSTER, tmp_path / "no token")
    assert watches_pods(replace(config, pod_watch="on"), {}, tmp_path / "no token")
