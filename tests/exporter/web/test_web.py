"""What is served, over real HTTP on loopback."""

import gzip
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from exporter.gpus import GpuError
from exporter.metrics.exposition import Exposition
from exporter.model.claims import Claim, Claims, Container
from exporter.model.readings import Reason
from exporter.model.snapshot import Snapshot
from exporter.web.page import render_page
from exporter.web.readiness import checks, ready
from exporter.web.server import Handlers, listen, make_app, serving
from tests.doubles.scripted import MIG_GPU, Harness, gpu

HELD = Claims(held=(Claim(Container("ml", "<b>train</b>", "main"), "nvidia.com/gpu", gpu(0).uuid),))


@dataclass
class Served:
    http: ClientSession
    url: str
    harness: Harness
    snapshot: Snapshot
    dead: str = ""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    harness = Harness(claims=HELD)
    handlers = Handlers(
        Exposition(lambda: current.snapshot, beside=CollectorRegistry()),
        snapshot=lambda: current.snapshot,
        dead=lambda: current.dead,
    )
    with listen("127.0.0.1", 0) as opened:
        async with (
            serving(make_app(handlers), opened) as url,
            ClientSession(auto_decompress=False) as http,
        ):
            current = Served(http, url, harness, harness.sampler.snapshot)
            yield current


async def test_metrics_as_text_and_openmetrics(served: Served) -> None:
    async with served.http.get(served.url + "/metrics", headers={"Accept-Encoding": ""}) as plain:
        assert plain.status == 200
        assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"gpu_memory_used_bytes{" in await plain.read()
    accept = {
        "Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        "Accept-Encoding": "",
    }
    async with served.http.get(served.url + "/metrics", headers=accept) as openmetrics:
        assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
        assert (await openmetrics.read()).endswith(b"# EOF\n")


async def test_metrics_are_zipped_for_those_who_take_it(served: Served) -> None:
    async with served.http.get(served.url + "/metrics", headers={"Accept-Encoding": ""}) as plain:
        assert "Content-Encoding" not in plain.headers
        body = await plain.read()
    encoding = {"Accept-Encoding": "gzip, deflate"}
    async with served.http.get(served.url + "/metrics", headers=encoding) as zipped:
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await zipped.read()) == body


async def test_metrics_by_name(served: Served) -> None:
    url = served.url + "/metrics?name[]=gpu_memory_used_bytes&name[]=gpu_exporter_gpus"
    async with served.http.get(url, headers={"Accept-Encoding": ""}) as response:
        lines = (await response.text()).splitlines()
    names = {line.split("{")[0] for line in lines if not line.startswith("#")}
    assert names == {"gpu_memory_used_bytes", "gpu_exporter_gpus"}


async def test_health_is_about_what_only_a_new_process_helps(served: Served) -> None:
    async with served.http.get(served.url + "/healthz") as response:
        assert response.status == 200
        assert await response.json() == {"alive": True, "reason": ""}
    served.dead = "no sampling step for 11 s"
    async with served.http.get(served.url + "/healthz") as response:
        assert response.status == 503
        assert await response.json() == {"alive": False, "reason": "no sampling step for 11 s"}


async def test_readiness_is_about_what_can_be_collected(served: Served) -> None:
    async with served.http.get(served.url + "/readyz") as response:
        assert response.status == 200
    no_driver = Harness(open_error=GpuError(Reason.DRIVER_NOT_LOADED, "the driver is not loaded"))
    no_driver.run(5)
    served.snapshot = no_driver.sampler.snapshot
    async with served.http.get(served.url + "/readyz") as response:
        assert response.status == 503
        answer = await response.json()
    assert not answer["ready"]
    assert answer["checks"][0] == {
        "name": "nvml",
        "ok": False,
        "required": True,
        "reason": "the driver is not loaded",
    }


async def test_page(served: Served) -> None:
    async with served.http.get(served.url + "/") as response:
        assert response.headers["Content-Type"].startswith("text/html")
        page = await response.text()
    assert "&lt;b&gt;train&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "simulated" not in page


async def test_unknown_paths_are_not_found(served: Served) -> None:
    async with served.http.get(served.url + "/nothing") as response:
        assert response.status == 404


def test_the_page_shows_memory_that_has_no_limit(served: Served) -> None:
    (held,) = served.snapshot.containers
    shared = replace(held, memory_used_bytes=45 * 10**9, memory_limit_bytes=None)
    sole = replace(held, memory_used_bytes=2**30, memory_limit_bytes=2**31)
    unknown = replace(held, memory_used_bytes=None)
    page = render_page(replace(served.snapshot, containers=(shared, sole, unknown)))
    containers = page.partition("<h2>Containers on GPUs</h2>")[2]
    assert "<td>41.9 GiB</td>" in containers
    assert "<td>1.0 of 2.0 GiB</td>" in containers
    assert "<td>-</td>" in containers


def test_the_page_shows_a_gpu_that_draws_nothing() -> None:
    harness = Harness(count=1)
    harness.run(5)
    (sample,) = harness.sampler.snapshot.gpus
    assert sample.data
    idle = replace(sample.data, full=replace(sample.data.full, power_draw_watts=0.0))
    page = render_page(replace(harness.sampler.snapshot, gpus=(replace(sample, data=idle),)))
    assert "<td>0 W</td>" in page


def test_no_style_of_the_page_is_unused() -> None:
    harness = Harness(count=2)
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "lost")
    harness.run(5)
    page = render_page(replace(harness.sampler.snapshot, backend="simulated"))
    style, _, body = page.partition("</style>")
    for name in re.findall(r"\.([a-z]+) \{", style):
        assert f'class="{name}"' in body, name
    for tag in re.findall(r"(?:^|[,}] )([a-z][a-z0-9]*)(?=[ ,]*[{,])", style, re.MULTILINE):
        assert f"<{tag}" in body, tag


def test_page_says_that_gpus_are_simulated_and_what_the_problems_are() -> None:
    harness = Harness(count=2)
    harness.backend.gpus[0].gpu = MIG_GPU
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "lost")
    harness.run(5)
    page = render_page(replace(harness.sampler.snapshot, backend="simulated"))
    assert "These GPUs are simulated" in page
    assert "GPU 1 is lost" in page
    assert "1g.10gb" in page


def test_some_gpus_away_is_ready_and_all_away_is_not() -> None:
    harness = Harness(count=2)
    harness.backend.gpus[0].error = GpuError(Reason.GPU_LOST, "lost")
    harness.run(1)
    found = checks(harness.sampler.snapshot)
    assert ready(found)
    assert [c.reason for c in found if c.name == "gpus"] == ["GPU 0 is lost"]
    harness.backend.gpus[1].error = GpuError(Reason.GPU_LOST, "lost")
    harness.run(1)
    assert not ready(checks(harness.sampler.snapshot))


def test_a_kubelet_that_is_down_is_told_and_does_not_unready() -> None:
    harness = Harness()
    harness.claims.current = None
    harness.run(1)
    found = checks(harness.sampler.snapshot)
    assert ready(found)
    assert [(c.name, c.ok, c.reason) for c in found][-1] == ("kubelet", False, "scripted")


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
async def test_listening_on_one_address(host: str, family: socket.AddressFamily) -> None:
    if family is socket.AF_INET6 and not _has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with listen(host, 0) as opened:
        assert opened.family is family


async def test_listening_on_every_address_reaches_ipv4_and_ipv6() -> None:
    with listen("", 0) as opened:
        port = opened.getsockname()[1]
        for host in ["127.0.0.1", *(["::1"] if _has_ipv6() else [])]:
            socket.create_connection((host, port), timeout=5).close()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
