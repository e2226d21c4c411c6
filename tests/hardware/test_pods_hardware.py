"""Pods that share a real GPU and run out of its memory, from the process to /metrics.

Prints what it saw, for docs/hardware.md. Wants root, cgroup v2 and PyTorch.
"""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.process import resident_mebibytes
from exporter.gpus.nvml import NvmlBackend
from tests.hardware.pods import CGROUPS, Node, Pod, node

pytestmark = pytest.mark.hardware

GIB = 2**30

WORK = """
import sys, time, torch
held = torch.ones(int(sys.argv[1]) * 2**30, dtype=torch.uint8, device="cuda")
a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
rest = float(sys.argv[2])
print("ready", flush=True)
while True:
    began = time.monotonic()
    while time.monotonic() - began < 0.02:
        b = a @ a
        torch.cuda.synchronize()
    time.sleep(rest)
"""

GROW = """
import sys, time, torch
torch.ones(1, device="cuda")
print("ready", flush=True)
time.sleep(6)
held = []
while True:
    held.append(torch.empty(int(sys.argv[1]) * 2**30, dtype=torch.uint8, device="cuda"))
    time.sleep(0.5)
"""
"""Allocates so many GiB at a time until there is no more: gradually, or all at once.

A process that ran out is gone within the tick: what the node sees of it is the peak a tick before.
"""


@pytest.fixture
def gpu_uuid(backend: NvmlBackend) -> str:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch to make load with")
    if not (CGROUPS / "cgroup.controllers").exists() or not os.access(CGROUPS, os.W_OK):
        pytest.skip("no cgroup v2 to write to")
    return backend.readers()[0].find()


@pytest.fixture
async def shared(tmp_path: Path, gpu_uuid: str) -> AsyncIterator[tuple[Node, str]]:
    async with node(tmp_path, (f"{gpu_uuid}::0", f"{gpu_uuid}::1")) as made:
        yield made, gpu_uuid


@pytest.fixture
async def whole(tmp_path: Path, gpu_uuid: str) -> AsyncIterator[tuple[Node, str]]:
    async with node(tmp_path, (gpu_uuid,)) as made:
        yield made, gpu_uuid


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


async def test_what_two_pods_share(shared: tuple[Node, str]) -> None:
    made, uuid = shared
    await made.run(Pod("busy", f"{uuid}::0", WORK, ("8", "0")))
    await made.run(Pod("lazy", f"{uuid}::1", WORK, ("20", "0.04")))
    for pod in ("busy", "lazy"):  # once the watch has seen both
        await made.until("gpu_container_utilization_ratio", pod, 0.02)
    lows = []
    for _ in range(20):
        await asyncio.sleep(1)
        series = await made.scrape()
        told: dict[str, dict[str, float]] = {}
        for (name, pairs), value in series.items():
            told.setdefault(name, {})[dict(pairs).get("pod", "")] = value
        utilization = told["gpu_container_utilization_ratio"]
        memory = told["gpu_container_memory_used_bytes"]
        device = told["gpu_utilization_ratio"][""]
        used = told["gpu_memory_used_bytes"][""]
        rest = told["gpu_unattributed_memory_bytes"][""]
        assert sum(utilization.values()) <= device + 1e-9
        assert sum(memory.values()) + rest == pytest.approx(used, rel=1e-9)
        energy = sum(told["gpu_container_energy_joules_total"].values())
        assert (
            energy + told["gpu_unattributed_energy_joules_total"][""]
            <= (told["gpu_energy_joules_total"][""])
        )
        assert 8 * GIB < memory["busy"] < 12 * GIB
        assert 20 * GIB < memory["lazy"] < 24 * GIB
        assert utilization["busy"] > utilization["lazy"] > 0
        lows.append(min(utilization.values()))
    say("device", f"{device:.3f}", *(f"{pod} {ratio:.3f}" for pod, ratio in utilization.items()))
    say("memory GiB", {pod: round(held / GIB, 2) for pod, held in memory.items()})
    say("unattributed GiB", round(rest / GIB, 2), "device GiB", round(used / GIB, 2))
    say("exporter with pod watch, MiB", resident_mebibytes(made.exporter.process.pid))
    nvidia_smi = shutil.which("nvidia-smi")
    assert nvidia_smi
    pmon = subprocess.run(  # noqa: ASYNC221  the node is left alone meanwhile
        [nvidia_smi, "pmon", "-c", "3", "-s", "um"], capture_output=True, text=True, check=True
    )
    say(pmon.stdout)


async def test_memory_that_grows_until_there_is_no_more(whole: tuple[Node, str]) -> None:
    """With no word in the termination message, only what the node saw speaks."""
    made, uuid = whole
    pod = await made.run(Pod("grows", uuid, GROW, ("1",)))
    code = await pod.wait()
    at = time.time()
    assert code == 1
    made.ended(pod, code, message=False)
    family = "gpu_container_oom_events_total"
    await made.until(family, "grows", 1, confidence="likely")
    assert (await made.by_pod(family, confidence="confirmed")) == {"grows": 0}
    peak = (await made.by_pod("gpu_container_memory_peak_bytes"))["grows"]
    limit = (await made.by_pod("gpu_container_memory_limit_bytes"))["grows"]
    say("gradual: peak", f"{peak / limit:.4f}", "of the limit, verdict after", time.time() - at)
    say(pod.log[-1])


async def test_more_at_once_than_there_is(whole: tuple[Node, str]) -> None:
    """The device never fills: without a message nothing is seen, with it the verdict is sure."""
    made, uuid = whole
    for name, message in (("silent", False), ("speaks", True)):
        pod = await made.run(Pod(name, uuid, GROW, ("200",)))
        code = await pod.wait()
        made.ended(pod, code, message=message)
        if message:
            await made.until("gpu_container_oom_events_total", name, 1, confidence="confirmed")
        else:
            await made.until("gpu_container_memory_peak_bytes", name, 1)
            await asyncio.sleep(12)
            told = await made.scrape()
            events = {
                dict(pairs)["confidence"]: value
                for (family, pairs), value in told.items()
                if family == "gpu_container_oom_events_total" and dict(pairs)["pod"] == name
            }
            assert events == {"confirmed": 0, "likely": 0, "possible": 0}
        peak = (await made.by_pod("gpu_container_memory_peak_bytes"))[name]
        say("one-shot,", name, "peak GiB", round(peak / GIB, 2), pod.log[-1])
        made.remove(pod)


async def test_the_neighbour_held_the_memory(shared: tuple[Node, str]) -> None:
    made, uuid = shared
    await made.run(Pod("holds", f"{uuid}::0", WORK, ("50", "0.5")))
    pod = await made.run(Pod("starves", f"{uuid}::1", GROW, ("2",)))
    code = await pod.wait()
    made.ended(pod, code, message=True)
    family = "gpu_container_oom_events_total"
    await made.until(family, "starves", 1, confidence="confirmed")
    assert (await made.by_pod(family, confidence="confirmed"))["holds"] == 0
    held = await made.by_pod("gpu_container_oom_cotenant_memory_bytes", cotenant_pod="holds")
    assert held["starves"] > 50 * GIB
    say("shared: the neighbour held GiB", round(held["starves"] / GIB, 2))
    say(pod.log[-1])
