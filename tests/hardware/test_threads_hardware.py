"""Reads and waits for events of all GPUs, from threads of each: the driver has to stand it."""

import subprocess
import sys

import pytest

from exporter.gpus.nvml import NvmlBackend

pytestmark = pytest.mark.hardware

SECONDS = 30
READ_FROM_ALL_THREADS = f"""
import faulthandler, threading, time
from exporter.gpus.nvml import NvmlBackend
faulthandler.enable()
backend = NvmlBackend()
backend.open()
end = time.monotonic() + {SECONDS}
def read(reader):
    while time.monotonic() < end:
        reader.read_fast()
        reader.read_full()
        reader.read_slow()
        time.sleep(0.1)
def listen(reader):
    while time.monotonic() < end:
        reader.wait_events(0.5)
readers = backend.readers()
threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
threads += [threading.Thread(target=listen, args=(reader,)) for reader in readers]
for thread in threads: thread.start()
for thread in threads: thread.join()
backend.close()
"""


def test_the_driver_stands_one_thread_for_each_gpu(backend: NvmlBackend) -> None:
    if len(backend.readers()) < 2:
        pytest.skip("one GPU has one thread")
    ended = subprocess.run(
        [sys.executable, "-c", READ_FROM_ALL_THREADS], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
