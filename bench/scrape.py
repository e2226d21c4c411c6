"""What scrapes and memory cost at full size: 8 GPUs x 7 slices x 250 pods, over loopback.

``python -m bench.scrape --minutes 10 --json scrape.json`` runs the real program on the simulated
node, scrapes it, and prints a table. "warm" scrapes find the bytes of the last snapshot; "cold"
ones are the first after a new snapshot and have it rendered: what a Prometheus that comes every
15 s or more always gets. The simulated node's own cost is part of the process's.

With ``--churn``, one pod more comes each second, and goes 20 s later.
"""

import argparse
import gzip
import http.client
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from bench.process import cpu_seconds, resident_mebibytes

WARM_SCRAPES = 2000
_CHURN_LIFE_SECONDS = 20
_ZIPPED = {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}


@dataclass(frozen=True)
class Result:
    warm_p50_ms: float
    warm_p99_ms: float
    cold_p50_ms: float
    cold_p99_ms: float
    body_bytes: int
    zipped_bytes: int
    series: int
    core_percent: float
    resident_mebibytes: float
    minutes: float


class Target:
    """The program in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "exporter", "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--backend", "simulated", *arguments], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"serves http://127\.0\.0\.1:(\d+)/metrics", line):
                break
        else:
            raise RuntimeError("the exporter did not start")
        self._http = http.client.HTTPConnection("127.0.0.1", int(found[1]))

    def scrape(self) -> tuple[float, bytes]:
        """Return the milliseconds that a scrape took, and its zipped body."""
        begun = time.perf_counter()
        self._http.request("GET", "/metrics", headers=_ZIPPED)
        body = self._http.getresponse().read()
        return (time.perf_counter() - begun) * 1000, body


def churning(folder: Path, minutes: float) -> Path:
    """Write the busy node's scenario with pods that come and go, and return its path.

    They share slices that the scenario's own 250 pods leave room on.
    """
    scenario = resources.files("exporter.gpus.simulated") / "scenarios/busy-node.yaml"
    path = folder / "churn.yaml"
    comers = [
        f"  - {{namespace: batch, pod: job-{n}, gpu: {5 + n % 3}, slice: {n // 3 % 7}, start: {n}s,"
        f" duration: {_CHURN_LIFE_SECONDS}s, workload: {{kind: inference, memory: 0.01}}}}"
        for n in range(int(60 * minutes) + 120)
    ]
    path.write_text("\n".join([scenario.read_text().rstrip(), *comers, ""]))
    return path


def measure(minutes: float, arguments: list[str]) -> Result:
    target = Target(*arguments)
    try:
        time.sleep(12)  # two full ticks, and claims
        cold, seen, cpu, begun = [], b"", cpu_seconds(target.process.pid), time.monotonic()
        while time.monotonic() - begun < 60 * minutes:
            # As two Prometheus servers would, each 15 s: the CPU share is of this.
            milliseconds, body = target.scrape()
            if body != seen:
                cold.append(milliseconds)
            seen = body
            time.sleep(7.5)
        share = 100 * (cpu_seconds(target.process.pid) - cpu) / (time.monotonic() - begun)
        warm = [target.scrape()[0] for _ in range(WARM_SCRAPES)]
        text = gzip.decompress(seen)
        return Result(
            warm_p50_ms=_percentile(warm, 50),
            warm_p99_ms=_percentile(warm, 99),
            cold_p50_ms=_percentile(cold, 50),
            cold_p99_ms=_percentile(cold, 99),
            body_bytes=len(text),
            zipped_bytes=len(seen),
            series=sum(not line.startswith(b"#") for line in text.splitlines()),
            core_percent=share,
            resident_mebibytes=resident_mebibytes(target.process.pid),
            minutes=minutes,
        )
    finally:
        target.process.kill()


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--profile", default="h100")
    parser.add_argument("--scenario", default="busy-node")
    parser.add_argument("--pod-watch", default="on")
    parser.add_argument("--churn", action="store_true", help="on the busy-node scenario")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        scenario = options.scenario
        if options.churn:
            scenario = str(churning(Path(folder), options.minutes))
        node = ["--profile", options.profile, "--scenario", scenario]
        result = measure(options.minutes, [*node, "--pod-watch", options.pod_watch])
    for name, value in asdict(result).items():
        print(f"{name:24} {value:12.2f}")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=2))


if __name__ == "__main__":
    main()
