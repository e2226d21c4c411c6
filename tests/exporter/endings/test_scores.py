"""How well the product reads ends, by texts that it was tuned on, and by others that it was not.

Every text goes the product's own way: a pod's status with the message that the kubelet keeps of a
log, the judge of ends, and a history of the GPU's memory with one of three courses.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from exporter.model.ends import Cause
from tests.doubles.ends import COURSES, End, ends, judged, termination, verdicts

FILES = ["tuned_on.txt", "held_out.txt", "fresh.txt", "fresh_2.txt"]
AT_LEAST_LIKELY = {"likely", "confirmed"}


@dataclass
class Score:
    """Counts over one file of texts. Lists name what went wrong, for whoever tunes."""

    false_confirmed: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    missed_fills: list[str] = field(default_factory=list)
    wrongly_likely: list[str] = field(default_factory=list)
    tried: Counter[str] = field(default_factory=Counter)

    def add(self, end: End, found: Mapping[str, str | None]) -> None:
        for course in COURSES:
            confidence, name = found[course], f"{end.name}@{course}"
            if end.kind in {"device", "either"}:
                self._add_device(name, confidence)
                if course == "fill":
                    self._add_fill(name, confidence)
            elif end.kind == "silent":
                if course == "fill":
                    self._add_fill(name, confidence)
                else:
                    self._add_other(name, confidence)
            else:
                self._add_other(name, confidence)
        if end.kind == "either" and found["flat40"] == "confirmed":
            self.false_confirmed.append(f"{end.name}@flat40")

    def _add_device(self, name: str, confidence: str | None) -> None:
        self.tried["device"] += 1
        if confidence not in AT_LEAST_LIKELY:
            self.missed.append(name)

    def _add_fill(self, name: str, confidence: str | None) -> None:
        self.tried["fill"] += 1
        if confidence not in AT_LEAST_LIKELY:
            self.missed_fills.append(name)

    def _add_other(self, name: str, confidence: str | None) -> None:
        self.tried["other"] += 1
        if confidence == "confirmed":
            self.false_confirmed.append(name)
        if confidence in AT_LEAST_LIKELY:
            self.wrongly_likely.append(name)

    def __str__(self) -> str:
        tried = self.tried
        return (
            f"false confirmed {len(self.false_confirmed)}; device OOMs missed {len(self.missed)} of"
            f" {tried['device']}; fills missed {len(self.missed_fills)} of {tried['fill']}; other"
            f" ends likely {len(self.wrongly_likely)} of {tried['other']}\n"
            f"{self.false_confirmed=}\n{self.missed=}\n{self.missed_fills=}\n{self.wrongly_likely=}"
        )


def score(file: str) -> Score:
    result = Score()
    for end in ends(file):
        result.add(end, verdicts(termination(end.text, end.exit_code, end.reason)))
    return result


@pytest.mark.parametrize("file", FILES)
def test_ends_are_read_as_well_as_promised(file: str) -> None:
    result = score(file)
    print(f"{file}: {result}")  # noqa: T201  (pytest -s shows the scores)
    tried = result.tried
    assert result.false_confirmed == [], result
    assert len(result.missed) <= 0.10 * tried["device"], result
    assert len(result.missed_fills) <= 0.05 * tried["fill"], result
    assert len(result.wrongly_likely) <= 0.02 * tried["other"], result


BY_KIND = {
    "device": Cause.GPU_OOM,
    "either": Cause.GPU_OOM,
    "host": Cause.HOST_OOM,
    "silent": Cause.UNKNOWN,
}


@pytest.mark.parametrize("file", FILES)
def test_causes_are_named_as_well_as_promised(file: str) -> None:
    wrong, tried = [], 0
    for end in ends(file):
        expected = Cause(end.cause) if end.cause else BY_KIND.get(end.kind)
        if expected is None:
            continue
        tried += 1
        found = judged(termination(end.text, end.exit_code, end.reason), *COURSES["flat40"])
        if found.cause is not expected:
            wrong.append((end.name, found.cause, expected))
    print(f"{file}: {tried - len(wrong)} of {tried} causes")  # noqa: T201
    assert len(wrong) <= 0.05 * tried + 1, wrong
