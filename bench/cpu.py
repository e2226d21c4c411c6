"""What reading the GPUs costs: the C floor, the backend's reads, and whole commands.

``python -m bench.cpu --seconds 120 --json cpu.json --command 'kube-gpu-exporter serve'``, on a
machine with NVIDIA GPUs and a C compiler, prints a table of CPU seconds on the default ticks. The
floor does the same NVML calls from C, so the ratio to it is what Python and we add.
"""

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.process import cpu_seconds, resident_mebibytes
from exporter.gpus.nvml import NvmlBackend

FLOOR = Path(__file__).with_name("floor.c")
TICKS = {"read_fast": 1.0, "read_full": 5.0, "read_slow": 30.0}
"""The default ticks of the backend's reads, in seconds."""


@dataclass(frozen=True)
class Cost:
    """CPU time that something took."""

    what: str
    gpus: int
    seconds: float
    cpu_seconds: float
    resident_mebibytes: float | None = None

    @property
    def core_percent(self) -> float:
        return 100 * self.cpu_seconds / self.seconds

    def times(self, floor: "Cost") -> float:
        """How often the floor's cost per second."""
        return self.core_percent / floor.core_percent if floor.core_percent else float("inf")


def measure_floor(seconds: float) -> Cost:
    """Compile the C floor and run it."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "floor"
        compiler = os.environ.get("CC", "cc")
        flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([compiler, *flags, "-o", program, FLOOR, "-ldl"], check=True)
        ticks = [str(tick) for tick in TICKS.values()]
        done = subprocess.run(
            [program, str(seconds), *ticks], check=True, stdout=subprocess.PIPE, text=True
        )
    told = json.loads(done.stdout)
    return Cost("C floor", told["gpus"], told["seconds"], told["cpu_seconds"])


def measure_backend(
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    cpu_clock: Callable[[], float] = time.process_time,
    sleep: Callable[[float], object] = time.sleep,
    backend: NvmlBackend | None = None,
) -> Cost:
    """Run the backend's reads in this process, on one thread."""
    backend = backend or NvmlBackend()
    backend.open()
    try:
        readers = backend.readers()
        for reader in readers:
            for name in TICKS:
                getattr(reader, name)()
        start, cpu = clock(), cpu_clock()
        due = dict.fromkeys(TICKS, start)
        while (now := clock()) < start + seconds:
            for name, tick in TICKS.items():
                if due[name] <= now:
                    for reader in readers:
                        getattr(reader, name)()
                    due[name] += tick
            sleep(max(0.0, min(*due.values(), start + seconds) - clock()))
        return Cost(
            "backend's reads",
            len(readers),
            clock() - start,
            cpu_clock() - cpu,
            resident_mebibytes(os.getpid()),
        )
    finally:
        backend.close()


def measure_command(command: str, gpus: int, seconds: float, settle_seconds: float) -> Cost:
    """Run a command, let it settle, and watch what it uses."""
    process = subprocess.Popen(shlex.split(command), stdout=subprocess.DEVNULL)
    try:
        _outlive(process, settle_seconds)
        start, cpu = time.monotonic(), cpu_seconds(process.pid)
        _outlive(process, seconds)
        return Cost(
            command,
            gpus,
            time.monotonic() - start,
            cpu_seconds(process.pid) - cpu,
            resident_mebibytes(process.pid),
        )
    finally:
        process.terminate()
        process.wait()


def _outlive(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return
    raise SystemExit(f"{process.args!r} ended with code {code}")


def table(costs: Sequence[Cost]) -> str:
    """Format costs for people; the first is the floor."""
    lines = [f"{'what':<40} {'GPUs':>4} {'CPU s':>8} {'% of a core':>11} {'x floor':>8} {'MiB':>6}"]
    for cost in costs:
        resident = "" if cost.resident_mebibytes is None else f"{cost.resident_mebibytes:.0f}"
        lines.append(
            f"{cost.what[:40]:<40} {cost.gpus:>4} {cost.cpu_seconds:>8.3f}"
            f" {cost.core_percent:>11.3f} {cost.times(costs[0]):>8.2f} {resident:>6}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each run")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds before a command counts")
    parser.add_argument("--command", action="append", default=[], help="measure this as well")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args(arguments)
    floor = measure_floor(options.seconds)
    costs = [floor, measure_backend(options.seconds)]
    costs += [
        measure_command(command, floor.gpus, options.seconds, options.settle)
        for command in options.command
    ]
    print(table(costs))
    if options.json:
        told = [
            asdict(c) | {"core_percent": c.core_percent, "times_floor": c.times(floor)}
            for c in costs
        ]
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
