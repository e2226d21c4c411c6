"""Everything that a machine with an NVIDIA GPU is asked, in one go.

``python -m bench.gpu_report DIR`` writes one file a step into DIR, and says at the end which steps
failed; a step that fails stops no other. Takes about 9 minutes. Changes no setting of the GPU. The
steps under load want PyTorch, the C floor a C compiler.
"""

import argparse
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

PORT = 19400
_PYTHON = sys.executable
_SERVE = (_PYTHON, "-m", "exporter", "serve", "--listen", f"127.0.0.1:{PORT}")
_LOAD = (_PYTHON, "-m", "bench.load", "--seconds", "75")
_HARDWARE_TESTS = (
    *(_PYTHON, "-m", "pytest", "-c", "/dev/null", "--rootdir=.", "--import-mode=importlib"),
    *(
        "-o",
        "asyncio_mode=auto",
        "-W",
        "ignore",
        "-m",
        "hardware",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "tests/hardware",
    ),
)


@contextmanager
def running(command: Sequence[str], log: Path) -> Any:
    """Run a command beside what is done meanwhile."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=10)


def written(path: Path, command: Sequence[str], expect: int = 0) -> None:
    """Run a command, and write what it says to a file."""
    with path.open("w") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, timeout=400, check=False
        ).returncode
    if code != expect:
        raise RuntimeError(f"{' '.join(command)}: exit code {code}")


def scraped(path: Path) -> None:
    """Write one scrape, and what nvidia-smi says at the same moment, beside each other."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=10) as response:
        path.with_suffix(".prom").write_bytes(response.read())
    written(path.with_suffix(".smi.txt"), ("nvidia-smi", "-q"))


def served(folder: Path) -> None:
    """Serve for minutes: idle, under load, idle again; look at each."""
    with running(_SERVE, folder / "serve.log"):
        time.sleep(40)
        scraped(folder / "served-idle")
        with running(_LOAD, folder / "load.log"):
            time.sleep(50)
            scraped(folder / "served-loaded")
            capture = (_PYTHON, "-m", "tests.doubles.capture", "record", "--out")
            written(folder / "capture.log", (*capture, str(folder / "loaded.json.gz")))
        time.sleep(40)
        scraped(folder / "served-after")


def steps(folder: Path) -> Mapping[str, Callable[[], None]]:
    exporter = (_PYTHON, "-m", "exporter")
    record = (_PYTHON, "-m", "tests.doubles.capture", "record", "--out")
    capture = (*record, str(folder / "idle.json.gz"))
    cpu = (_PYTHON, "-m", "bench.cpu", "--seconds", "65", "--command", " ".join(_SERVE))
    scrape = (_PYTHON, "-m", "bench.scrape", "--minutes", "1")
    commands = {
        "smi": ("nvidia-smi", "-q"),
        "doctor": (*exporter, "doctor"),
        "once": (*exporter, "once"),
        "idle-capture": capture,
        "hardware-tests": _HARDWARE_TESTS,
        "cpu": (*cpu, "--json", str(folder / "cpu.json")),
        "scrape": (*scrape, "--json", str(folder / "scrape.json")),
    }
    made: dict[str, Callable[[], None]] = {
        name: partial(written, folder / f"{name}.txt", command)
        for name, command in commands.items()
    }
    return made | {"served": partial(served, folder)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, step in steps(folder).items():
        begun = time.monotonic()
        try:
            step()
        except Exception as error:  # noqa: BLE001 -- the next step may still work
            failed += 1
            print(f"FAILED {name}: {error}", flush=True)
        else:
            print(f"done   {name} in {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
