"""Two processes that share a real GPU: one always busy, the other about a third of the time."""

import contextlib
import importlib.util
import subprocess
import sys
import time

import pytest

from exporter.attribution.sharing import busy_shares, memory_by_container
from exporter.gpus.nvml import NvmlBackend
from exporter.model.claims import Container
from exporter.processes.owners import ProcessOwners

pytestmark = pytest.mark.hardware

LOAD = """
import sys, time, torch
a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
rest = float(sys.argv[1])
print("ready", flush=True)
while True:
    began = time.monotonic()
    while time.monotonic() - began < 0.02:
        b = a @ a
        torch.cuda.synchronize()
    time.sleep(rest)
"""


def test_two_processes_on_one_gpu(backend: NvmlBackend) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("no torch to make load with")
    (reader, *_) = backend.readers()
    with contextlib.ExitStack() as stack:
        for rest in ("0", "0.04"):
            command = [sys.executable, "-c", LOAD, rest]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        time.sleep(3)
        reader.read_full(processes=True)
        time.sleep(5)
        full, fast = reader.read_full(processes=True), reader.read_fast()
        told = full.process_utilization
        assert told is not None, full.failures
        assert fast.processes is not None
        pids = [process.pid for process in fast.processes]
        found = ProcessOwners().owners(pids)
    assert {process.pid for process in told} <= set(pids)
    assert len(told) == len(pids) == 2
    low, high = sorted(process.sm_ratio for process in told)
    assert 0 < low < high <= 1
    assert full.utilization
    mean = sum(sample.ratio for sample in full.utilization) / len(full.utilization)
    assert low + high == pytest.approx(mean, abs=0.35)
    assert found.keys() == set(pids)
    containers = {pid: Container("test", str(pid), "main") for pid in pids}
    assert sum(busy_shares(told, containers).values()) == pytest.approx(1)
    assert fast.memory is not None
    parts = memory_by_container(fast.memory, fast.processes, containers)
    assert parts is not None
    assert len(parts) == 2
    assert 0 < sum(parts.values()) <= fast.memory.used_bytes
