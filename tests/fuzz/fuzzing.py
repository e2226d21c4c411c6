"""Runs a target on many inputs."""

import time
from dataclasses import dataclass
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, as_json

_EACH = 100
"""Inputs that are made from one to begin with."""
_SLOW_SECONDS = 2.0
"""Of the processor's time, for one input. No input is longer than 20 000 characters."""


@dataclass(slots=True)
class Figures:
    inputs: int = 0
    slowest_seconds: float = 0.0


def fuzz(name: str, inputs: int, *, quick: bool = True) -> Figures:
    """Check a target with at least that many inputs, and return how it went.

    The first input that fails is raised with the error. ``quick`` gives the same inputs each time.
    """
    target, figures = TARGETS[name], Figures()

    @settings(
        max_examples=-(-inputs // _EACH),
        derandomize=quick,
        database=None,
        deadline=None,
        phases=[Phase.generate] if not quick else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.begin, st.integers(0, 2**32))
    def check(begin: object, seed: int) -> None:
        random, value = Random(seed), begin  # noqa: S311  (not for secrets)
        for number in range(_EACH):
            if number:
                # Changes add up for a while, and then it begins anew.
                value = target.mutate(begin if number % 5 == 0 else value, random)
            started = time.thread_time()
            try:
                target.check(value)
            except BaseException as error:
                error.add_note(f"input: {as_json(value)}")
                raise
            seconds = time.thread_time() - started
            assert seconds < _SLOW_SECONDS, f"{seconds:.1f} s for {as_json(value)}"
            figures.inputs += 1
            figures.slowest_seconds = max(figures.slowest_seconds, seconds)

    check()
    return figures
