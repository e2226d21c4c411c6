"""Claims that match no device are named in the log, so that somebody can report them."""

import logging

import pytest

from exporter.model.claims import Claim, Claims, DraClaim
from tests.doubles.scripted import Harness, gpu
from tests.exporter.sampling.test_containers import TRAIN

ODD = Claim(TRAIN, "example.com/gpu", "slot-7/of/board-3")
DRA = DraClaim(TRAIN, "ml", "claim", "gpu.nvidia.com", "node-1", "gpu-9")
GOOD = Claim(TRAIN, "nvidia.com/gpu", gpu(0).uuid)


def test_each_is_logged_once_after_half_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    harness = Harness(claims=Claims(held=(ODD, GOOD), dra=(DRA,)))
    harness.run(25)
    assert caplog.messages == []
    harness.run(300)
    assert sorted(caplog.messages) == [
        "no device matches example.com/gpu slot-7/of/board-3",
        "no device matches gpu.nvidia.com node-1 gpu-9",
    ]
    [odd] = [record for record in caplog.records if "slot-7" in record.getMessage()]
    assert (odd.namespace, odd.pod, odd.container) == ("ml", "train-0", "main")  # type: ignore[attr-defined]
    assert odd.reason == "unknown_form"  # type: ignore[attr-defined]


def test_a_device_that_is_found_in_time_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    harness = Harness(claims=Claims(held=(ODD,)))
    harness.run(20)
    harness.claims.current = Claims(held=(GOOD,))
    harness.run(20)
    harness.claims.current = Claims(held=(ODD,))
    harness.run(25)
    assert caplog.messages == []
    harness.run(10)
    assert len(caplog.messages) == 1
