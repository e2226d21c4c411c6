"""Texts of ends, and what the product makes of them with three courses of the GPU's memory.

The texts lie in ``tests/exporter/endings/texts``. They come from public logs and issues, with other
figures and paths; ``derived`` marks those that were composed from the kinds that were seen.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.kubernetes.pods import parse_terminations
from exporter.model.clocks import UnixSeconds
from exporter.model.oom import OomVerdict
from exporter.model.pods import Termination
from exporter.model.verdicts import EndVerdict
from tests.doubles.api_manifests import ended, manifest
from tests.doubles.kubelet_messages import from_log
from tests.doubles.terminations import END, TRAIN, Node, held

TEXTS: Final = Path(__file__).parents[1] / "exporter" / "endings" / "texts"

FLAT_40: Final = (40.0,) * 30
"""Memory stands at 40 %: the words alone must decide."""
FLAT_97: Final = (97.0,) * 30
"""A server that takes its memory beforehand."""
FILL: Final = (*(50.0,) * 20, 55, 60, 65, 70, 75, 80, 85, 90, 95, 99.2)
"""Memory rises in the last ten seconds until the GPU is full."""
COURSES: Final = {"flat40": FLAT_40, "flat97": FLAT_97, "fill": FILL}


@dataclass(frozen=True)
class End:
    """One end, and what is known of it."""

    name: str
    kind: str
    """What really happened: see ``texts/README.md``."""
    exit_code: int
    reason: str
    cause: str | None
    text: str


def ends(file: str) -> Iterator[End]:
    """Yield the ends of one file of texts."""
    blocks = re.split(r"(?m)^### ", (TEXTS / file).read_text(encoding="utf-8"))
    for block in blocks[1:]:
        head, _, text = block.partition("\n")
        name, *fields = (field.strip() for field in head.split("|"))
        known = dict(field.split("=", 1) for field in fields if re.match(r"\w+=", field))
        yield End(
            name=name,
            kind=known["kind"],
            exit_code=int(known["exit"]),
            reason=known.get("reason", "Error"),
            cause=known.get("cause"),
            text=text.rstrip("\n").replace("␛", "\x1b"),
        )


def termination(log: str, exit_code: int = 1, reason: str = "Error") -> Termination:
    """Return the end that a pod's status reports, with the message that the kubelet keeps."""
    pod = manifest(
        TRAIN.pod,
        namespace=TRAIN.namespace,
        uid="uid-train",
        statuses=[
            ended(
                TRAIN.name,
                finished=END,
                exit_code=exit_code,
                reason=reason,
                message=from_log(log),
            )
        ],
    )
    [found] = parse_terminations(pod)
    return found.termination


def judged(end: Termination, *percents: float) -> EndVerdict:
    """Return why a container ended, with one reading of its GPU's memory a second before that."""
    node = Node()
    node.hold([held()])
    node.read(*percents)
    node.judge.terminated(end)
    [found] = node.judge.step(UnixSeconds(END + 25))
    return found.verdict


def verdict(end: Termination, *percents: float) -> OomVerdict | None:
    """Return the verdict on GPU memory."""
    return judged(end, *percents).oom


def verdicts(end: Termination) -> Mapping[str, str | None]:
    """Return the confidence at each course of memory."""
    found: dict[str, Any] = {}
    for course, percents in COURSES.items():
        of_memory = verdict(end, *percents)
        found[course] = of_memory.confidence.value if of_memory else None
    return found
