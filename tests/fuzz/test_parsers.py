"""A short run of each target; ``make fuzz`` runs a million inputs of each."""

import pytest

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_crashes_a_parser(name: str) -> None:
    assert fuzz(name, inputs=1000).inputs >= 1000
