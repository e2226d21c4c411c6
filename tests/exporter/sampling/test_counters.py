"""Sums that stay true whatever the hardware's counters and buffers do."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.readings import UtilizationSample
from exporter.sampling.counters import BusyIntegral, SteadyCounter, WindowPeak
from tests.doubles.scripted import at

PERIOD = 0.2


def samples(first: int, last: int, ratio: float = 1.0) -> list[UtilizationSample]:
    """Make samples at every fifth of a second, by number."""
    return [UtilizationSample(n * PERIOD, ratio) for n in range(first, last + 1)]


@given(st.lists(st.floats(0, 1e15, allow_nan=False)))
def test_monotonic_never_goes_back(raws: list[float]) -> None:
    counter = SteadyCounter()
    totals = [counter.update(raw) for raw in raws]
    assert all(after >= before for before, after in pairwise(totals))


def test_monotonic_adds_what_came_after_a_reset() -> None:
    counter = SteadyCounter()
    assert [counter.update(raw) for raw in (100, 130, 5, 8)] == [100, 130, 135, 138]
    assert counter.added == 3


def test_a_raw_value_that_falls_a_little_has_not_started_again() -> None:
    counter = SteadyCounter()
    totals = [counter.update(raw) for raw in (1000, 1100, 1099, 1101, 600, 1102)]
    assert totals == [1000, 1100, 1100, 1101, 1101, 1102]


def test_first_batch_counts_nothing_of_the_past() -> None:
    busy = BusyIntegral().add(samples(0, 70), now=at(14.0))
    assert busy is not None
    assert (busy.seconds, busy.mean_ratio, busy.peak_ratio) == (0.0, 1.0, 1.0)


def test_overlapping_buffers_count_once() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    busy = integral.add(samples(25, 95, ratio=0.5), now=at(19.0))
    assert busy is not None
    assert busy.seconds == pytest.approx(2.5)


def test_a_hole_counts_at_the_mean_of_what_follows() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    busy = integral.add(samples(130, 200, ratio=0.25), now=at(40.0))
    assert busy is not None
    assert busy.seconds == pytest.approx(0.25 * 26.0)


def test_a_hole_that_is_too_long_counts_as_nothing() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    busy = integral.add(samples(1000, 1070), now=at(214.0))
    assert busy is not None
    assert busy.seconds == pytest.approx(14.2)


def test_time_of_an_interruption_counts_for_nothing() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    integral.interrupt()
    lost = integral.add(samples(930, 1000), now=at(200.0))
    after = integral.add(samples(930, 1005), now=at(201.0))
    assert lost is not None
    assert after is not None
    assert lost.seconds == 0.0
    assert after.seconds == pytest.approx(1.0)


def test_nothing_new_is_unknown() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    assert integral.add(samples(0, 70), now=at(14.1)) is None
    assert integral.add([], now=at(15.0)) is None


def test_clock_set_back_goes_on_from_there() -> None:
    integral = BusyIntegral()
    integral.add(samples(100_000, 100_070), now=at(14.0))
    integral.add(samples(0, 70), now=at(19.0))
    busy = integral.add(samples(25, 95), now=at(24.0))
    assert busy is not None
    assert busy.seconds == pytest.approx(5.0)


def test_clock_set_forward_is_no_busy_time() -> None:
    integral = BusyIntegral()
    integral.add(samples(0, 70), now=at(14.0))
    stepped = [*samples(71, 80), *samples(100_081, 100_095)]
    busy = integral.add(stepped, now=at(19.0))
    assert busy is not None
    assert busy.seconds == pytest.approx(5.0)


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 60, allow_nan=False),
            st.floats(0, 1, allow_nan=False),
            st.floats(-4000, 4000, allow_nan=False),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_busy_never_exceeds_the_time_that_passed(
    reads: list[tuple[float, float, float, bool]],
) -> None:
    """Over any gaps, clock steps, interruptions."""
    integral, now, offset, total, clock_steps = BusyIntegral(), 100.0, 5000.0, 0.0, 0
    for index, (gap, ratio, step, interrupted) in enumerate(reads):
        now += gap
        if index % 3 == 2:
            offset += step
            clock_steps += 1
        if interrupted:
            integral.interrupt()
        newest = int((now + offset) / PERIOD)
        busy = integral.add(samples(newest - 70, newest, ratio), at(now))
        assert busy is None or busy.seconds >= 0
        total += busy.seconds if busy else 0.0
    # Sample times and read times differ by up to a period, and a clock step hides up to a second.
    assert total <= now - 100.0 + PERIOD + clock_steps


def test_peak_of_a_window() -> None:
    peak = WindowPeak(window=60.0)
    assert peak.value(at(0.0)) is None
    for now, value in ((0.0, 5.0), (10.0, 9.0), (20.0, 3.0)):
        peak.add(value, at(now))
    assert [peak.value(at(now)) for now in (20.0, 69.9, 70.0, 79.9, 80.0)] == [
        9,
        9,
        3,
        3,
        None,
    ]


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 100)), min_size=1), st.floats(1, 100))
def test_peak_is_the_maximum_of_the_window(steps: list[tuple[float, float]], window: float) -> None:
    peak, now, seen = WindowPeak(window), 0.0, []
    for gap, value in steps:
        now += gap
        peak.add(value, at(now))
        seen.append((now, value))
        assert peak.value(at(now)) == max(v for at, v in seen if at > now - window)
