"""SIGTERM ends the program from its first instruction on, also where it is PID 1.

The program is stopped while it imports a module, so that a test sends its one signal at a known
place, however busy the machine is.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.process import PATIENCE_SECONDS, exporter

PAUSE = """
import os, pathlib, sys, time
class Pause:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PAUSE_AT"]:
            pathlib.Path(os.environ["PAUSED"]).write_text(str(os.getpid()))
            while True:
                time.sleep(1)
sys.meta_path.insert(0, Pause())
"""

AS_PID_1 = ("unshare", "--pid", "--fork", "--kill-child")
MODULES = ["click", "exporter.config", "exporter.app.serve", "aiohttp", "grpc", "pynvml"]


def _can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*AS_PID_1, "true"], capture_output=True, check=False).returncode == 0


def _child_of(process: "subprocess.Popen[bytes]") -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(children.read_text().split()[0])


@contextmanager
def paused(
    tmp_path: Path, module: str, *arguments: str, within: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the program until it imports ``module``."""
    (tmp_path / "sitecustomize.py").write_text(PAUSE)
    mark = tmp_path / "paused"
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PAUSE_AT": module,
        "PAUSED": str(mark),
    }
    command = [*within, sys.executable, "-m", "exporter", *arguments]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        try:
            begun = time.monotonic()
            while not (mark.exists() and mark.read_text()):
                assert process.poll() is None, process.stderr
                assert time.monotonic() - begun < PATIENCE_SECONDS
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("module", MODULES)
def test_sigterm_while_the_program_is_loaded_ends_it(tmp_path: Path, module: str) -> None:
    arguments = ("serve", "--listen", "127.0.0.1:0", "--backend", "nvml")
    with paused(tmp_path, module, *arguments) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr
        assert process.stderr.read() == b""


@pytest.mark.skipif(not _can_unshare(), reason="no PID namespace can be made here")
@pytest.mark.parametrize("module", MODULES)
def test_sigterm_while_the_program_is_loaded_ends_it_as_pid_1(tmp_path: Path, module: str) -> None:
    arguments = ("serve", "--listen", "127.0.0.1:0", "--backend", "nvml")
    with paused(tmp_path, module, *arguments, within=AS_PID_1) as process:
        assert (tmp_path / "paused").read_text() == "1"
        os.kill(_child_of(process), signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.skipif(not _can_unshare(), reason="no PID namespace can be made here")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_serving_program_as_pid_1(number: signal.Signals) -> None:
    with exporter("--backend", "simulated", within=AS_PID_1) as running:
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        os.kill(int(children.read_text()), number)
        assert running.process.wait(PATIENCE_SECONDS) == 0
        assert any("stopped" in line for line in running.log)


def test_sigint_while_the_program_is_loaded_leaves_no_traceback(tmp_path: Path) -> None:
    with paused(tmp_path, "click") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 130
        assert process.stderr
        assert process.stderr.read() == b""


def test_a_command_that_is_ended_before_it_is_done_has_a_shell_s_exit_code(tmp_path: Path) -> None:
    with paused(tmp_path, "exporter.gpus.simulated.backend", "once", "--backend=simulated") as once:
        once.send_signal(signal.SIGTERM)
        assert once.wait(PATIENCE_SECONDS) == 143


def test_doctor_ends_although_a_thread_of_its_is_stuck(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import concurrent.futures, threading\n"
        "concurrent.futures.ThreadPoolExecutor().submit(threading.Event().wait)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "doctor", "--backend=simulated"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.wait(PATIENCE_SECONDS) == 0
            assert process.stdout
            assert b"info" in process.stdout.read().splitlines()[-1]
        finally:
            process.kill()
