"""What a device's memory looked like in a window that is asked about later."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from exporter.model.claims import Container
from exporter.model.clocks import UnixSeconds
from exporter.model.readings import Memory
from exporter.sampling.memory_history import MemoryHistory, Peak
from tests.doubles.scripted import GIB

TOTAL = 80 * GIB
ONE, OTHER = Container("ml", "one", "main"), Container("ml", "other", "main")


def add(history: MemoryHistory, used: int, now: float, uuid: str = "GPU-0", **held: int) -> None:
    holders = {Container("ml", pod, "main"): held_bytes for pod, held_bytes in held.items()}
    history.add(uuid, Memory(TOTAL, used, TOTAL - used), holders, UnixSeconds(now))


def peak(history: MemoryHistory, uuid: str, since: float, until: float) -> Peak | None:
    return history.peak(uuid, UnixSeconds(since), UnixSeconds(until))


def found(maybe: Peak | None) -> Peak:
    assert maybe is not None
    return maybe


def test_the_peak_of_a_window_with_who_held_it() -> None:
    history = MemoryHistory()
    add(history, 10, 0.0, one=9)
    add(history, 70, 1.0, one=20, other=50)
    add(history, 30, 2.0, one=30)
    assert peak(history, "GPU-0", 0.0, 2.0) == Peak(70, TOTAL, 60, {ONE: 20, OTHER: 50})
    assert found(peak(history, "GPU-0", 2.0, 9.0)).used_bytes == 30


def test_edges_belong_to_the_window() -> None:
    history = MemoryHistory()
    for second, used in enumerate((50, 10, 20, 60)):
        add(history, used, float(second))
    assert found(peak(history, "GPU-0", 1.0, 2.0)).used_bytes == 20
    assert found(peak(history, "GPU-0", 0.0, 3.0)).used_bytes == 60


def test_rise_counts_from_the_level_at_which_the_window_is_entered() -> None:
    history = MemoryHistory()
    add(history, 5, 0.0)
    add(history, 40, 9.0)
    add(history, 90, 11.0)
    assert found(peak(history, "GPU-0", 10.0, 20.0)).rise_bytes == 50


def test_what_falls_after_the_peak_is_no_rise() -> None:
    history = MemoryHistory()
    for second, used in enumerate((97, 97, 0)):
        add(history, used, float(second))
    assert found(peak(history, "GPU-0", 0.0, 5.0)).rise_bytes == 0


def test_a_framework_that_frees_and_tries_again_rises() -> None:
    history = MemoryHistory()
    for second, used in enumerate((97, 97, 60, 97, 0)):
        add(history, used, float(second))
    assert found(peak(history, "GPU-0", 0.0, 5.0)).rise_bytes == 37


def test_nothing_is_known_of_other_times_and_devices() -> None:
    history = MemoryHistory()
    add(history, 10, 100.0)
    assert peak(history, "GPU-0", 0.0, 99.0) is None
    assert peak(history, "GPU-0", 101.0, 200.0) is None
    assert peak(history, "GPU-1", 0.0, 200.0) is None


def test_a_minute_late_is_early_enough_and_three_minutes_are_forgotten() -> None:
    history = MemoryHistory(180.0)
    for second in range(1000):
        add(history, second, float(second))
    assert found(peak(history, "GPU-0", 900.0, 932.0)).used_bytes == 932
    assert found(peak(history, "GPU-0", 0.0, 820.0)).used_bytes == 820
    assert peak(history, "GPU-0", 0.0, 818.0) is None


def test_a_clock_that_is_set_back_starts_anew() -> None:
    history = MemoryHistory()
    add(history, 90, 5000.0)
    add(history, 10, 100.0)
    assert found(peak(history, "GPU-0", 0.0, 6000.0)).used_bytes == 10


def test_slices_that_are_gone_are_forgotten_with_their_layout() -> None:
    history = MemoryHistory(180.0)
    add(history, 10, 0.0, uuid="MIG-1")
    add(history, 10, 100.0, uuid="MIG-2")
    assert peak(history, "MIG-1", 0.0, 0.0) is not None
    add(history, 10, 200.0, uuid="MIG-3")
    assert peak(history, "MIG-1", 0.0, 0.0) is None
    assert peak(history, "MIG-2", 100.0, 100.0) is not None


def test_eight_gpus_of_sixty_holders_stay_small() -> None:
    holders = [Container("ml", f"pod-{n}", "main") for n in range(60)]
    history = MemoryHistory()
    tracemalloc.start()
    for second in range(600):
        for index in range(8):
            used = {holder: second * GIB + n for n, holder in enumerate(holders)}
            history.add(f"GPU-{index}", Memory(TOTAL, second, TOTAL), used, UnixSeconds(second))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1.5 * 2**20


@given(
    levels=st.lists(st.integers(0, TOTAL), min_size=1, max_size=60),
    since=st.integers(-5, 65),
    length=st.integers(0, 70),
)
def test_the_peak_is_the_highest_within_and_never_below_its_rise(
    levels: list[int], since: int, length: int
) -> None:
    history = MemoryHistory()
    for second, used in enumerate(levels):
        add(history, used, float(second))
    within = levels[max(0, since) : max(0, since + length + 1)]
    highest = peak(history, "GPU-0", float(since), float(since + length))
    assert (highest.used_bytes if highest else None) == max(within, default=None)
    assert highest is None or 0 <= highest.rise_bytes <= highest.used_bytes
