"""Draws docs/images/ from three simulated nodes, whose story a real Prometheus has watched.

The story passes some times as fast as the clock, on each node at another pace, so that each is at
another point of it; the rules' windows are as much shorter.
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from dashboards.generate import DASHBOARDS
from rules import render
from rules.settings import defaults
from setup.demo.monitoring import Prometheus, Target, prometheus
from setup.demo.picture.page import draw
from setup.demo.picture.query import Reader
from setup.demo.servers import ServerError, running, until
from setup.demo.stack import Exporter

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = ROOT / "docs/images"


@dataclass(frozen=True)
class Node:
    """A simulated node: how many times as fast as the clock its story passes."""

    profile: str
    speed: int


NODES = {
    "gpu-a": Node("h100", 6),
    "gpu-b": Node("a100-mig", 5),
    "gpu-c": Node("h200-mixed", 7),
}
PRICES = {"NVIDIA H100 80GB HBM3": 2.5, "NVIDIA A100-SXM4-40GB": 1.3, "NVIDIA H200": 3.2}
CHOICES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "gpu-node": {"node": ["gpu-a"]},
    "gpu-workload": {"workload": ["llm-train", "leaky-finetune-a"]},
    "gpu-sharing": {"node": ["gpu-b", "gpu-c"]},
}
"""What the reader of a picture has chosen, by dashboard."""

_DRAWN_AFTER = 140.0
"""Seconds from the start: in the second round, about 4:00 on gpu-a, whose GPU 6 waits for a reset,
1:40 on gpu-b and 6:10 on gpu-c, whose GPU 7 is lost."""
_SHOWN = 100.0
"""Seconds until then that the pictures show."""
_SCALE = 60
"""How many times shorter the rules' windows are."""


def main() -> int:
    end = time.time() + _DRAWN_AFTER
    try:
        with TemporaryDirectory(prefix="gpu-pictures-") as folder, _watched(Path(folder)) as server:
            until(lambda: time.time() > end + 1, lambda: "time stands still", 2 * _DRAWN_AFTER)
            for outline in DASHBOARDS:
                reader = Reader(end - _SHOWN, end, 1, CHOICES.get(outline.uid, {}))
                page = draw(json.loads(outline.json()), server.ask, reader)
                picture = IMAGES / f"{outline.uid}.png"
                picture.write_bytes(page.png())
                sys.stdout.write(f"{picture.relative_to(ROOT)}\n")
    except ServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


@contextmanager
def _watched(folder: Path) -> Iterator[Prometheus]:
    """Run the nodes, and a Prometheus that scrapes them and evaluates the rules."""
    with ExitStack() as servers:
        targets = [
            Target(
                servers.enter_context(running(Exporter, *_exporter(folder, name, node))).address,
                labels={"node": name, "instance": name},
            )
            for name, node in NODES.items()
        ]
        yield servers.enter_context(prometheus(folder / "data", targets, rules=_rules(folder)))


def _exporter(folder: Path, name: str, node: Node) -> Sequence[str]:
    """Return the command of a node with the default scenario, its pods by names of their own."""
    scenario = resources.files("exporter.gpus.simulated") / "scenarios/default.yaml"
    path = folder / f"{name}.yaml"
    path.write_text(renamed(scenario.read_text(), list(NODES).index(name)))
    return (
        *(sys.executable, "-m", "exporter", "serve", "--listen", "127.0.0.1:0", "--node", name),
        *("--backend", "simulated", "--profile", node.profile, "--speed", str(node.speed)),
        *("--scenario", str(path), "--fast-interval", "250ms", "--full-interval", "250ms"),
        *("--slow-interval", "1s", "--kubelet-interval", "500ms", "--read-deadline", "2s"),
        *("--claims-grace", "2s", "--ended-grace", "3s"),
    )


def renamed(scenario: str, index: int) -> str:
    """Let ``llm-train-0`` be ``llm-train-1`` on the second node, and ``sweep`` be ``sweep-b``."""

    def rename(found: re.Match[str]) -> str:
        return f"{found[1]}-{index}" if found[2] else f"{found[1]}-{'abc'[index]}"

    return re.sub(r"(\bpod: [\w-]+?)(-0)?(?=,|$)", rename, scenario, flags=re.MULTILINE)


def _rules(folder: Path) -> list[Path]:
    files = []
    for name, content in render.rule_files(replace(defaults(), prices=PRICES), _SCALE).items():
        files.append(folder / name)
        files[-1].write_bytes(content)
    return files


if __name__ == "__main__":
    raise SystemExit(main())
