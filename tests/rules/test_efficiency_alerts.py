"""Alerts on GPUs that are too large, shared by too many, or nobody's, on Prometheus' own engine."""

import re
from pathlib import Path

import pytest

from exporter.gpus.simulated.profiles import A100, H200, Board
from exporter.gpus.simulated.profiles import H100 as H100_BOARD
from rules.mig import BOARDS
from tests.rules.promtool import Case, Firing, Watched, check
from tests.rules.things import (
    CONTAINER,
    DEVICE,
    GPU,
    HELD,
    HELD_LABELS,
    info,
)

BOARD_BUSY = f"gpu_busy_seconds_total{{{GPU}}}"
SECOND = HELD.replace("GPU-a", "GPU-b").replace('gpu="0"', 'gpu="1"')


def hopper(sm: float, dram: float, watts: float, busy: float) -> dict[str, str]:
    return {
        info(): "1x150",
        f"gpu_sm_activity_ratio{{{GPU}}}": f"{sm}x150",
        f"gpu_dram_activity_ratio{{{GPU}}}": f"{dram}x150",
        f"gpu_power_draw_watts{{{GPU}}}": f"{watts}x150",
        f"gpu_power_limit_watts{{{GPU}}}": "700x150",
        BOARD_BUSY: f"0+{60 * busy}x150",
    }


def low(what: Firing) -> dict[str, tuple[Firing, ...]]:
    return {"74m": (), "75m": (what,), "100m": (what,)}


LOW = Firing(
    f"{CONTAINER}: {DEVICE} looks busy, but over 30m its SMs were active for 3%, with DRAM activity"
    " below 20% and, of a whole board, power below 50% of its limit (GPU performance monitor).",
    HELD_LABELS,
)
LOW_SLICE = Firing(LOW.description.replace("GPU-a", "MIG-a"), {**HELD_LABELS, "uuid": "MIG-a"})
SLICE = HELD.replace("GPU-a", "MIG-a")
SLICE_DEVICE = 'node="n1",gpu="0",uuid="MIG-a"'


def board(model: str, peak_gib: int, busy: float, sm: float | None = None) -> dict[str, str]:
    series = {
        info(): "1x500",
        f'gpu_info{{{GPU},model="{model}"}}': "1x500",
        f"gpu_memory_used_peak_bytes{{{GPU}}}": f"{peak_gib * 1024**3}x500",
        f"gpu_utilization_ratio{{{GPU}}}": f"{busy}x500",
        BOARD_BUSY: f"0+{60 * busy}x500",
    }
    return series if sm is None else {**series, f"gpu_sm_activity_ratio{{{GPU}}}": f"{sm}x500"}


def oversized(profile: str, source: str, share: str) -> Firing:
    return Firing(
        f"{CONTAINER} holds {DEVICE}, but within 6h its peak memory fitted a {profile} slice and"
        " its"
        f" {source} stayed within the {share} of the SMs that such a slice has.",
        {**HELD_LABELS, "profile": profile, "source": source},
    )


H100 = "NVIDIA H100 80GB HBM3"
FREE = 'gpu_allocatable_devices{node="n1",resource="nvidia.com/gpu"}'
TAKEN = 'gpu_allocated_devices{node="n1",resource="nvidia.com/gpu"}'
OUTSIDE = f"gpu_unattributed_busy_seconds_total{{{GPU}}}"
PROCESSES = 'gpu_exporter_source_up{node="n1",source="processes"}'


def outside(share: str) -> Firing:
    return Firing(
        f"GPU 0 (GPU-a) of node n1 was busy for {share} of the last 15m with work that is no"
        " container's.",
        {"node": "n1", "gpu": "0", "uuid": "GPU-a"},
    )


def tenant(i: int) -> str:
    return HELD.replace("nb-0", f"nb-{i}")


def shared(
    board_busy: float, tenants: list[float], used: int = 10, exempt: str = ""
) -> dict[str, str]:
    series = {
        BOARD_BUSY: f"0+{60 * board_busy}x90",
        f"gpu_memory_used_bytes{{{GPU}}}": f"{used}x90",
        f"gpu_memory_total_bytes{{{GPU}}}": "80x90",
    }
    for i, busy in enumerate(tenants):
        series |= {
            info(tenant(i), "time_sliced", exempt if i == 0 else ""): "1x90",
            f"gpu_container_busy_seconds_total{{{tenant(i)}}}": f"0+{60 * busy}x90",
        }
    return series


def crowded(i: int, pressure: str, share: str) -> Firing:
    return Firing(
        f"Container main of pod lab/nb-{i} shares {DEVICE} with others, and of its {pressure}"
        f" {share} were used over 30m.",
        {**HELD_LABELS, "pod": f"nb-{i}", "pressure": pressure},
    )


WATCHED = (
    Watched(
        "GPULowActivity",
        "info",
        "owner",
        (
            Case("one SM spins", hopper(0.03, 0.01, 150, 1.0), low(LOW)),
            Case("decoding is bound by memory", hopper(0.15, 0.7, 300, 1.0), {"100m": ()}),
            Case("it draws power, so it works", hopper(0.1, 0.1, 600, 1.0), {"100m": ()}),
            Case(
                "it is exempt",
                {**hopper(0.03, 0.01, 150, 1.0), info(): "_x150", info(exempt="underuse"): "1x150"},
                {"100m": ()},
            ),
            Case("it does not look busy", hopper(0.03, 0.01, 150, 0.3), {"100m": ()}),
            Case(
                "a slice has no power of its own",
                {
                    info(SLICE, "mig", profile="1g.10gb"): "1x150",
                    f"gpu_mig_sm_activity_ratio{{{SLICE_DEVICE}}}": "0.03x150",
                    f"gpu_mig_dram_activity_ratio{{{SLICE_DEVICE}}}": "0.01x150",
                    f"gpu_mig_busy_seconds_total{{{SLICE_DEVICE}}}": "0+60x150",
                },
                low(
                    Firing(
                        LOW.description.replace("GPU-a", "MIG-a"), {**HELD_LABELS, "uuid": "MIG-a"}
                    )
                ),
            ),
            Case(
                "without the performance monitor nobody can tell",
                {info(): "1x150", BOARD_BUSY: "0+60x150"},
                {"100m": ()},
            ),
            Case(
                "it has ended",
                {
                    s: v.replace("x150", "x74 stale")
                    for s, v in hopper(0.03, 0.01, 150, 1.0).items()
                },
                {"76m": ()},
            ),
        ),
    ),
    Watched(
        "GPUOversized",
        "info",
        "owner",
        (
            Case(
                "an eighth would do",
                board(H100, 5, 0.9, 0.1),
                {"400m": (), "452m": (oversized("1g.10gb", "SM activity", "12.12%"),)},
            ),
            Case(
                "its memory needs half",
                board(H100, 30, 0.9, 0.1),
                {"452m": (oversized("3g.40gb", "SM activity", "45.45%"),)},
            ),
            Case(
                "its SMs need a quarter",
                board(H100, 5, 0.9, 0.2),
                {"452m": (oversized("2g.20gb", "SM activity", "24.24%"),)},
            ),
            Case(
                "before Hopper by utilization, which is no less than SM activity",
                board("NVIDIA A100-SXM4-40GB", 3, 0.12),
                {"452m": (oversized("1g.5gb", "utilization", "12.96%"),)},
            ),
            Case(
                "its SMs are more than a seventh's slice has, though less than a seventh",
                board(H100, 5, 0.9, 0.13),
                {"452m": (oversized("2g.20gb", "SM activity", "24.24%"),)},
            ),
            Case(
                "the largest half has fewer SMs on that board",
                board("NVIDIA A100-SXM4-40GB", 15, 0.9, 0.41),
                {"452m": ()},
            ),
            Case(
                "it is exempt",
                {**board(H100, 5, 0.9, 0.1), info(): "_x500", info(exempt="all"): "1x500"},
                {"452m": ()},
            ),
            Case("it needs its memory", board(H100, 60, 0.9, 0.1), {"452m": ()}),
            Case("it needs its SMs", board(H100, 5, 0.9, 0.7), {"452m": ()}),
            Case("a board that can't be cut", board("Tesla T4", 1, 0.1), {"452m": ()}),
            Case("it idles, which is another alert's", board(H100, 5, 0, 0), {"452m": ()}),
            Case(
                "it needs two GPUs together",
                {**board(H100, 5, 0.9, 0.1), info(SECOND): "1x500"},
                {"452m": ()},
            ),
            Case(
                "it has ended, and the next one is new",
                {
                    **board(H100, 5, 0.9, 0.1),
                    info(): "1x380 stale",
                    info(tenant(1)): "_x381 1x150",
                },
                {"500m": ()},
            ),
        ),
        evaluation="4m",
    ),
    Watched(
        "GPUUnallocated",
        "info",
        "operator",
        (
            Case(
                "two are free all day",
                {FREE: "8x800", TAKEN: "4x100 6x700"},
                {
                    "1444m": (),
                    "1448m": (
                        Firing(
                            "2 of the devices nvidia.com/gpu of node n1 have been held by no"
                            " container at any time within 1d.",
                            {"node": "n1", "resource": "nvidia.com/gpu"},
                        ),
                    ),
                },
                interval="2m",
            ),
            Case(
                "once all are taken",
                {FREE: "8x800", TAKEN: "6x400 8x2 6x400"},
                {"1452m": (), "1560m": ()},
                interval="2m",
            ),
            Case(
                "a new node",
                {FREE: "_x700 8x100", TAKEN: "_x700 0x100"},
                {"1552m": ()},
                interval="2m",
            ),
            Case(
                "the node is gone",
                {FREE: "8x722 stale", TAKEN: "6x722 stale"},
                {"1472m": ()},
                interval="2m",
            ),
        ),
        evaluation="4m",
    ),
    Watched(
        "GPUUsedOutsidePods",
        "warning",
        "operator",
        (
            Case(
                "somebody logged in to the node",
                {OUTSIDE: "0+30x60", PROCESSES: "1x60"},
                {"14m": (), "40m": (outside("50%"),)},
            ),
            Case(
                "also beside pods that share it",
                {OUTSIDE: "0+30x60", PROCESSES: "1x60", info(sharing="time_sliced"): "1x60"},
                {"40m": (outside("50%"),)},
            ),
            Case(
                "nobody can tell whose it is",
                {OUTSIDE: "0+30x60", PROCESSES: "0x60", info(sharing="time_sliced"): "1x60"},
                {"40m": ()},
            ),
            Case("a test run", {OUTSIDE: "0x10 0+30x3 90x60"}, {"20m": (), "40m": ()}),
            Case("hours of it, long ago", {OUTSIDE: "86400x60"}, {"40m": ()}),
            Case("the GPU is gone", {OUTSIDE: "0+30x9 stale"}, {"24m": ()}),
        ),
    ),
    Watched(
        "GPUSharedOversubscribed",
        "info",
        "owner",
        (
            Case(
                "two that want it all",
                shared(1.0, [0.5, 0.5, 0]),
                {
                    "42m": (),
                    "44m": (
                        crowded(0, "time", "100%"),
                        crowded(1, "time", "100%"),
                        crowded(2, "time", "100%"),
                    ),
                },
            ),
            Case("one that has it all", shared(1.0, [0.95, 0.05]), {"60m": ()}),
            Case("there is time left", shared(0.8, [0.4, 0.4]), {"60m": ()}),
            Case(
                "there is no memory left",
                shared(0.2, [0.1, 0.1], used=78),
                {"60m": (crowded(0, "memory", "97.5%"), crowded(1, "memory", "97.5%"))},
            ),
            Case("one alone may fill it", shared(0.2, [0.2], used=78), {"60m": ()}),
            Case(
                "one does not mind",
                shared(1.0, [0.5, 0.5], exempt="all"),
                {"60m": (crowded(1, "time", "100%"),)},
            ),
            Case(
                "they have ended",
                {s: v.replace("x90", "x14 stale") for s, v in shared(1.0, [0.5, 0.5]).items()},
                {"17m": ()},
            ),
        ),
    ),
)


@pytest.mark.parametrize("board", [A100, H200, H100_BOARD], ids=lambda board: board.model)
def test_slices_are_those_that_the_driver_makes(board: Board) -> None:
    """The simulation has its figures from real boards' ``nvidia-smi mig -lgip``."""
    (listed,) = (known for known in BOARDS if re.fullmatch(known.models, board.model))
    made = {p.name: p for p in board.mig if p.compute_slices <= 3}
    assert listed.sm_count == board.sm_count
    assert {name: sms for name, (_, sms) in listed.profiles.items()} == {
        name: profile.sm_count for name, profile in made.items()
    }
    for name, (gib, _) in listed.profiles.items():
        assert gib * 1024 <= made[name].memory_mib <= gib * 1024 * 1.05


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
