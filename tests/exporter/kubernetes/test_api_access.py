"""How the API server is found, and by what right it is asked."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kubernetes.aio.client import Configuration

from exporter.kubernetes.access import ApiAccess, in_cluster_or_kubeconfig
from exporter.kubernetes.reflector import Timing
from exporter.kubernetes.simulated import Fault, SimulatedApiServer
from tests.doubles.api_manifests import manifest
from tests.doubles.following import following, names, until


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


async def test_a_kubeconfig_says_where_and_by_what_right(
    server: SimulatedApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    server.put("pods", manifest("a"))
    async with following(server, access=ApiAccess()) as watch:
        await until(lambda: names(watch) == {"a"})


async def test_without_any_configuration_it_says_so(
    server: SimulatedApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(
        "kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none")
    )
    async with following(server, access=ApiAccess()) as watch:
        await until(lambda: watch.health().failures["not_configured"] >= 2)
        assert "kubeconfig" in watch.health().message


async def test_in_a_cluster_the_service_account_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca.crt").write_text("a certificate")
    module = "kubernetes.aio.config.incluster_config"
    monkeypatch.setattr(f"{module}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{module}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    configuration = Configuration()
    await in_cluster_or_kubeconfig(configuration)
    assert configuration.host == "https://10.0.0.1:443"
    assert configuration.api_key == {"BearerToken": "bearer first"}


async def test_a_refused_token_is_got_anew_at_once(server: SimulatedApiServer) -> None:
    tokens = iter(("old", "new"))

    async def configure(configuration: Configuration) -> None:
        configuration.host = server.url
        configuration.api_key["BearerToken"] = f"bearer {next(tokens)}"
        if configuration.api_key["BearerToken"] == "bearer new":
            server.fault = None

    server.fault = Fault(status=401)
    timing = Timing(back_off=0.01, back_off_cap=0.02)
    async with following(server, access=ApiAccess(configure), timing=timing) as watch:
        await until(lambda: watch.health().up)
        assert watch.health().failures["unauthorized"] == 1
