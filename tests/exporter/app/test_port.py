"""The port of the real program, under limits of a real process and with clients that misbehave."""

import resource
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest

from tests.doubles.certificates import make_dated_certificate
from tests.doubles.process import Exporter, exporter

SIMULATED = ("--backend", "simulated", "--profile", "t4")


@pytest.fixture
def _many_descriptors() -> Iterator[None]:
    """Let this process hold the other end of each connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(running: Exporter) -> socket.socket:
    port = urlsplit(running.url).port
    assert port
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def with_descriptors(number: int) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit -n {number}; exec "$0" "$@"')


@pytest.mark.usefixtures("_many_descriptors")
@pytest.mark.parametrize("descriptors", [1024, 128])
def test_1100_clients_that_say_nothing_keep_neither_prometheus_nor_the_probes_out(
    descriptors: int,
) -> None:
    with (
        exporter(*SIMULATED, within=with_descriptors(descriptors)) as running,
        ExitStack() as stack,
    ):
        for _ in range(1100):
            stack.enter_context(connect(running))
        for path in ("/metrics", "/healthz", "/readyz", "/"):
            assert running.get(path)[0] in {200, 503}
        assert running.get("/metrics")[0] == running.get("/healthz")[0] == 200
        assert running.value("process_open_fds") < descriptors - 8  # type: ignore[operator]
        lines = [line for line in running.log if "connection" in line]
        assert 1 <= len(lines) <= 2
        assert not any("Traceback" in line for line in running.log)


def test_clients_that_read_nothing_do_not_keep_others_out() -> None:
    with exporter(*SIMULATED) as running, ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(connect(running))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert running.get("/metrics")[0] == 200
        assert running.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text;version=9.9.9",
        "application/openmetrics-text;q=0",
        "text/plain;version=abc",
        ";;,q=,\t",
    ],
)
def test_an_odd_accept_header_gets_text(accept: str) -> None:
    with exporter(*SIMULATED) as running:
        request = Request(f"{running.url}/metrics", headers={"Accept": accept})  # noqa: S310
        with urlopen(request, timeout=20) as response:  # noqa: S310
            assert response.status == 200
            expected = "text/plain; version=0.0.4; charset=utf-8"
            assert response.headers["Content-Type"] == expected
        assert not any("Traceback" in line for line in running.log)


def test_process_metrics_can_be_asked_for_by_name() -> None:
    with exporter(*SIMULATED) as running:
        _, body = running.get("/metrics?name[]=process_cpu_seconds_total")
        assert [line.split()[0] for line in body.splitlines() if not line.startswith("#")] == [
            "process_cpu_seconds_total"
        ]


def test_when_the_certificate_expires_is_exported_and_logged(tmp_path: Path) -> None:
    certificate, key = make_dated_certificate(tmp_path, "old", "20200101000000Z", "20210101000000Z")
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with exporter(*SIMULATED, "--tls-cert", certificate, "--tls-key", key) as running:
        with urlopen(f"{running.url}/metrics", timeout=20, context=trusting) as response:  # noqa: S310
            lines = response.read().decode().splitlines()
        assert "gpu_exporter_tls_certificate_expiry_timestamp_seconds 1.6094592e+09" in lines
        warnings = [line for line in running.log if "WARNING" in line]
        assert len(warnings) == 1
        assert f"the TLS certificate {certificate} expired at 2021-01-01T00:00:00Z" in warnings[0]
