"""The driver's library in C below pynvml: what the doubles in Python can't show."""

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.gpus.nvml import NvmlBackend
from tests.doubles.nvml_session import Clock, read_all
from tests.doubles.scripted_nvml import ScriptedNvml, needs_compiler, uuid_of

pytestmark = needs_compiler


def test_every_field_is_read_over_the_real_abi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nvml = ScriptedNvml(tmp_path)
    nvml.add("busy", 0, 60)
    nvml.add("process", 0, 4711, 2048)
    nvml.install(monkeypatch)
    backend = NvmlBackend(monotonic=Clock(step=1.0))
    assert backend.open().version == "580.159.04"
    first, second = backend.readers()
    assert (first.find(), second.find()) == (uuid_of(0), uuid_of(1))
    first.read_full()
    read = read_all(first)
    assert read["failures"] == ()
    absent = {name for name, value in read.items() if value is None or value in ((), {})}
    assert absent == {
        "failures",
        "instance_memory",
        "ended",
        "instance_activity",
        "process_utilization",
        "nvlink_errors",
    }
    assert {sample.ratio for sample in read["utilization"]} == {0.6}
    backend.close()


MANY_SESSIONS = """
import os
from exporter.gpus.nvml import NvmlBackend
backend = NvmlBackend()
counts = []
for _ in range(200):
    backend.open()
    for reader in backend.readers():
        reader.read_fast()
    backend.close()
    counts.append(len(os.listdir("/proc/self/fd")))
assert counts[-1] == counts[0], (counts[0], counts[-1])
"""


def test_two_hundred_sessions_leave_no_file_descriptor(tmp_path: Path) -> None:
    nvml = ScriptedNvml(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MANY_SESSIONS],
        env={**nvml.environment, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_mig_board_over_the_real_abi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvml = ScriptedNvml(tmp_path, boards=[3])
    nvml.add("mig", 3)
    nvml.install(monkeypatch)
    backend = NvmlBackend(monotonic=Clock(step=1.0))
    backend.open()
    (reader,) = backend.readers()
    gpu = reader.read_full().gpu
    assert [(part.gpu_instance, part.profile, part.sm_count) for part in gpu.slices] == [
        (1, "3g.40gb", 60),
        (2, "3g.40gb", 60),
    ]
    assert reader.read_fast().instance_memory.keys() == {1, 2}
    assert reader.read_full().instance_activity.keys() == {1, 2}
    backend.close()
