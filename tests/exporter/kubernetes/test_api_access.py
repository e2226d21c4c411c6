"""How the API server is found, and by what right it is asked."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from exporter.kubernetes.access import ApiAccess, find_login
from exporter.kubernetes.credentials import SERVICE_ACCOUNT, Credentials, ServiceAccount
from exporter.kubernetes.failures import ApiError, ApiFailure
from exporter.kubernetes.simulated import SimulatedApiServer
from tests.doubles.api_manifests import manifest
from tests.doubles.certificates import make_certificate
from tests.doubles.following import following, names, until


@pytest.fixture
async def server() -> AsyncIterator[SimulatedApiServer]:
    async with SimulatedApiServer() as made:
        yield made


# Inside a cluster


class Cluster:
    """An API server with TLS and tokens, and a pod's service account for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = folder / SERVICE_ACCOUNT
        self.files.mkdir(parents=True)
        self._serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server = SimulatedApiServer(tls=self._serving)
        self.server.tokens = {"first"}
        (self.files / "token").write_text("first\n")
        (self.files / "ca.crt").write_bytes(self.renew("one"))

    def renew(self, name: str) -> bytes:
        """Give the server a new certificate, and return what has to be trusted from now on."""
        certificate, key = make_certificate(self._folder, name)
        self._serving.load_cert_chain(certificate, key)
        return certificate.read_bytes()

    @property
    def environment(self) -> dict[str, str]:
        port = self.server.url.rpartition(":")[2]
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}

    def access(self) -> ApiAccess:
        return ApiAccess(find_login(self.environment, self._folder))


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path)
    async with made.server:
        yield made


async def ask(access: ApiAccess) -> bytes:
    async with access.ask("GET", "/api/v1/pods", timeout_seconds=5.0) as content:
        return await content.read()


@asynccontextmanager
async def closing(access: ApiAccess) -> AsyncIterator[ApiAccess]:
    try:
        yield access
    finally:
        await access.close()


async def test_in_a_cluster_the_service_account_is_used(cluster: Cluster) -> None:
    cluster.server.put("pods", manifest("a"))
    async with following(cluster.server, access=cluster.access()) as watch:
        await until(lambda: names(watch) == {"a"})
        assert watch.health().up


async def test_a_token_that_was_replaced_is_used_from_then_on(cluster: Cluster) -> None:
    async with closing(cluster.access()) as access:
        await ask(access)
        (cluster.files / "token").write_text("second")
        cluster.server.tokens = {"second"}
        calls = cluster.server.calls["list"]
        await ask(access)
        assert cluster.server.calls["list"] == calls + 1


async def test_a_refused_token_is_read_again_and_tried_once(cluster: Cluster) -> None:
    """The kubelet may replace the file between our reading it and the server's looking at it."""

    class Late(ServiceAccount):
        async def credentials(self, *, refused: Credentials | None) -> Credentials:
            (cluster.files / "token").write_text("second" if refused else "first")
            return self.read()

    cluster.server.tokens = {"second"}
    access = ApiAccess(Late(cluster.environment, cluster.files))
    async with following(cluster.server, access=access) as watch:
        await until(lambda: watch.health().up)
        assert watch.health().failures["unauthorized"] == 0


async def test_a_token_that_stays_refused_is_an_error_after_two_tries(cluster: Cluster) -> None:
    cluster.server.tokens = {"other"}
    async with closing(cluster.access()) as access:
        with pytest.raises(ApiError, match="check the service account's token") as raised:
            await ask(access)
    assert raised.value.reason is ApiFailure.UNAUTHORIZED
    assert cluster.server.calls["list"] == 2


async def test_certificates_that_were_replaced_are_trusted_from_then_on(cluster: Cluster) -> None:
    async with closing(cluster.access()) as access:
        await ask(access)
        trusted = cluster.renew("two")
        await cluster.server.stop()  # open connections would go on with the old certificate
        await cluster.server.start()
        with pytest.raises(ApiError) as raised:
            await ask(access)
        assert raised.value.reason is ApiFailure.UNTRUSTED
        assert str(raised.value) == (
            "no trusted connection to the API server: its certificate can't be verified"
            " (self-signed certificate)"
        )
        (cluster.files / "ca.crt").write_bytes(trusted)
        assert await ask(access)


async def test_a_bundle_may_hold_comments_in_any_encoding(cluster: Cluster) -> None:
    bundle = cluster.files / "ca.crt"
    bundle.write_bytes("# Zertifikat für den Cluster\n".encode("latin-1") + bundle.read_bytes())
    async with closing(cluster.access()) as access:
        assert await ask(access)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.96.0.1", "https://10.96.0.1:443"),
        ("fd00::1", "https://[fd00::1]:443"),
        ("[fd00::1]", "https://[fd00::1]:443"),
        ("kubernetes.default.svc", "https://kubernetes.default.svc:443"),
    ],
)
def test_the_address_comes_from_the_environment(cluster: Cluster, host: str, url: str) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "443"}
    credentials = ServiceAccount(environment, cluster.files).read()
    assert credentials.url == url
    assert credentials.authorization == "Bearer first"
    assert "first" not in repr(credentials)


def gone(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def two_lines(path: Path) -> None:
    path.write_text("one\r\nX-Injected: two")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize("name", ["token", "ca.crt"])
@pytest.mark.parametrize("spoil", [gone, empty, folder, two_lines, binary])
async def test_a_file_that_is_no_good_is_named_in_one_line(
    cluster: Cluster, name: str, spoil: Callable[[Path], None]
) -> None:
    path = cluster.files / name
    spoil(path)
    async with closing(cluster.access()) as access:
        with pytest.raises(ApiError) as raised:
            await ask(access)
    assert raised.value.reason is ApiFailure.NOT_CONFIGURED
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert cluster.server.calls["list"] == 0


@pytest.mark.parametrize("name", ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"])
async def test_an_address_that_is_missing_is_named(cluster: Cluster, name: str) -> None:
    login = ServiceAccount(cluster.environment | {name: ""}, cluster.files)
    async with closing(ApiAccess(login)) as access:
        with pytest.raises(ApiError, match=name) as raised:
            await ask(access)
    assert raised.value.reason is ApiFailure.NOT_CONFIGURED


IN_A_FRESH_PROCESS = """
import asyncio, os, sys
from pathlib import Path
from exporter.app import cli, doctor, once, parts, serve, sources
from exporter.kubernetes.access import ApiAccess, find_login
from exporter.kubernetes.watch import PodWatch

async def main():
    watch = PodWatch(ApiAccess(find_login(os.environ, Path(sys.argv[1]))), "node-a", since=0)
    task = asyncio.create_task(watch.run())
    async with asyncio.timeout(30):
        while not watch.health().up:
            await asyncio.sleep(0.01)
    task.cancel()
    print(sorted(name for _, name in watch.pods()))

asyncio.run(main())
print(sorted(name for name in sys.modules if name.partition(".")[0] == "kubernetes"))
"""


async def test_in_a_cluster_the_kubernetes_package_is_not_imported(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.server.put("pods", manifest("a"))
    environment = {**os.environ, **cluster.environment}
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, str(tmp_path)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["['a']", "[]"], done.stderr


# Outside a cluster


PLUGIN = """
import json, pathlib, sys
runs = pathlib.Path(sys.argv[1])
count = int(runs.read_text()) + 1 if runs.exists() else 1
runs.write_text(str(count))
version = "client.authentication.k8s.io/v1"
status = {"token": f"token-{count}"}
print(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))
"""


def use_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, path: Path, server: str, user: dict[str, object]
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))


async def test_a_kubeconfig_says_where_and_by_what_right(
    server: SimulatedApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tokens = {"secret"}
    use_kubeconfig(monkeypatch, tmp_path / "config", server.url, {"token": "secret"})
    server.put("pods", manifest("a"))
    async with following(server, access=ApiAccess()) as watch:
        await until(lambda: names(watch) == {"a"})


async def test_a_plugin_of_a_kubeconfig_is_run_again_when_its_token_is_refused(
    server: SimulatedApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, runs = tmp_path / "plugin.py", tmp_path / "runs"
    plugin.write_text(PLUGIN)
    execute = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": [str(plugin), str(runs)],
        "interactiveMode": "Never",
    }
    use_kubeconfig(monkeypatch, tmp_path / "config", server.url, {"exec": execute})
    server.tokens = {"token-1"}
    async with closing(ApiAccess()) as access:
        for _ in range(3):
            await ask(access)
        assert runs.read_text() == "1"
        server.tokens = {"token-2"}
        await ask(access)
        assert runs.read_text() == "2"


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


# How failures are worded


Answer = bytes | None

HANGS_UP = None
BREAKS_OFF = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
SPEAKS_OTHERWISE = b"SSH-2.0-OpenSSH_9.2\r\n"
REDIRECTS = b"HTTP/1.1 307 There\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def peer(answer: Answer, scheme: str = "http") -> AsyncIterator[ApiAccess]:
    """Return access to a server that answers so to whatever it hears, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if answer:
            writer.write(answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening, closing(ApiAccess.at(f"{scheme}://127.0.0.1:{port}")) as access:
        yield access


@pytest.mark.parametrize("answer", [HANGS_UP, BREAKS_OFF, SPEAKS_OTHERWISE])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_peer_that_misbehaves_is_described_in_plain_words(
    scheme: str, answer: Answer
) -> None:
    async with peer(answer, scheme) as access:
        with pytest.raises(ApiError) as raised:
            await ask(access)
    assert_plain(str(raised.value))


async def test_a_redirect_is_not_followed() -> None:
    async with peer(REDIRECTS) as access:
        with pytest.raises(ApiError, match="with 307, no details") as raised:
            await ask(access)
    assert raised.value.reason is ApiFailure.UNKNOWN


async def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with closing(ApiAccess.at(f"http://127.0.0.1:{port}")) as access:
        with pytest.raises(ApiError) as raised:
            await ask(access)
    assert str(raised.value) == (
        "no connection to the API server for GET /api/v1/pods:"
        f" 127.0.0.1:{port}: connection refused"
    )


async def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    async with closing(ApiAccess.at("http://nowhere.invalid:1")) as access:
        with pytest.raises(ApiError, match=r": the name nowhere\.invalid has no address$"):
            await ask(access)


@pytest.mark.parametrize("url", ["", "nowhere", "http://", "ftp://127.0.0.1:1"])
async def test_an_address_that_is_none(url: str) -> None:
    async with closing(ApiAccess.at(url)) as access:
        with pytest.raises(ApiError) as raised:
            await ask(access)
    assert raised.value.reason is ApiFailure.NOT_CONFIGURED
    assert_plain(str(raised.value))


def assert_plain(message: str) -> None:
    """Assert that no object of a library shows in what people will read."""
    assert "\n" not in message
    for raw in ("ConnectionKey", "Error(", "<", "object at", "Errno", "_ssl.c", "()", "ssl:", "b'"):
        assert raw not in message, message
