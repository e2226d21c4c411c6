"""What the DaemonSet would run really starts, outside a cluster, and is scraped."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.kubelet.simulated import SimulatedKubelet
from tests.daemonset.contained import NODE, TOKEN, Contained, contained, needs_bubblewrap
from tests.daemonset.render import KUSTOMIZE, kustomize
from tests.doubles.kubelet_node import claims_of, short_folder

POD_RESOURCES = "var/lib/kubelet/pod-resources"


@pytest.fixture
def host() -> Iterator[Path]:
    """Make a node's root, with the kubelet's directory as the kubelet makes it."""
    with short_folder() as root:
        root.chmod(0o755)
        (root / POD_RESOURCES).mkdir(parents=True)
        (root / POD_RESOURCES).chmod(0o750)
        (root / "token").mkdir()
        for name, text in (("token", "secret"), ("namespace", "gpu-monitoring"), ("ca.crt", "")):
            (root / "token" / name).write_text(text)
        yield root


def kubelet(host: Path) -> SimulatedKubelet:
    return SimulatedKubelet(host / POD_RESOURCES / "kubelet.sock", lambda: claims_of("0", "1"))


async def test_the_base_starts_and_asks_the_kubelet(host: Path) -> None:
    needs_bubblewrap()
    async with kubelet(host) as asked:
        await asyncio.to_thread(check_running, host)
    assert asked.calls["List"] > 0


def check_running(host: Path) -> None:
    with contained(kustomize(KUSTOMIZE / "base"), host) as running:
        # There is no GPU to show, but allocations are known, and so is why nothing is shown.
        running.until(lambda: running.series("gpu_exporter_source_up", source="kubelet") == 1)
        assert running.series("gpu_exporter_build_info", node=NODE) == 1
        assert running.series("gpu_allocatable_devices", resource="nvidia.com/gpu") == 2
        assert running.get("/healthz")[0] == 200
        status, text = running.get("/readyz")
        reasons = [check["reason"] for check in json.loads(text)["checks"] if not check["ok"]]
        assert (status, bool(reasons), all(reasons)) == (503, True, True)
        check_confined(running)
        assert running.terminate() == 0, running.ended()


def check_confined(running: Contained) -> None:
    """Check that it has no more than the DaemonSet gives."""
    status = running.status()
    assert status["Uid"].split() == ["0"] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    mounts = running.mounts()
    assert "ro" in mounts["/"]
    assert "ro" in mounts[f"/{POD_RESOURCES}"]
    assert "ro" in mounts[os.path.realpath("/var/run") + TOKEN.removeprefix("/var/run")]


async def test_a_kubelet_that_starts_anew_is_found_through_the_mounted_directory(
    host: Path,
) -> None:
    needs_bubblewrap()
    often = {f"GPU_EXPORTER_{name}_INTERVAL": "100ms" for name in ("FAST", "FULL", "KUBELET")}
    with contained(kustomize(KUSTOMIZE / "base"), host, **often) as running:

        def kubelet_is(up: float) -> bool:
            return running.series("gpu_exporter_source_up", source="kubelet") == up

        for _ in range(2):
            async with kubelet(host):
                await asyncio.to_thread(running.until, lambda: kubelet_is(1))
            (host / POD_RESOURCES / "kubelet.sock").unlink(missing_ok=True)
            await asyncio.to_thread(running.until, lambda: kubelet_is(0))


async def test_only_root_reaches_the_kubelets_socket(host: Path) -> None:
    """Why the DaemonSet runs as user 0: as the kubelet makes them, group 0 is not enough either."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can become other users")
    async with kubelet(host):
        socket = host / POD_RESOURCES / "kubelet.sock"
        socket.chmod(0o755)
        writable = {
            ids: subprocess.run(  # noqa: ASYNC221  (a moment)
                [
                    *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--clear-groups"),
                    *(f"--reuid={ids[0]}", f"--regid={ids[1]}", "test", "-w", socket),
                ],
                check=False,
            ).returncode
            == 0
            for ids in ((0, 0), (65532, 65532), (65532, 0))
        }
    assert writable == {(0, 0): True, (65532, 65532): False, (65532, 0): False}
