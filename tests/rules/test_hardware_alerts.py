"""Alerts on states and errors of GPUs, on Prometheus' own engine."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check
from tests.rules.things import GPU, GPU_NAME, on_gpu

DRIVER = 'gpu_exporter_source_up{node="n1",source="nvml"}'


def flag(
    alert: str, severity: str, series: str, wait: int, description: str, *, on: int = 1
) -> Watched:
    """Make the cases of an alert that stands as long as a gauge is ``on``, ``wait`` minutes later.

    A gauge that is 0 is well.
    """
    steady, brief = f"{series}", f"{on}x{max(wait - 1, 0)}"
    kept = 10 if severity == "critical" else 0
    firing = (on_gpu(description),)
    return Watched(
        alert,
        severity,
        "operator",
        (
            Case(
                "as long as it is so",
                {steady: f"0x4 {on}x{wait + 9} 0x20"},
                {
                    f"{wait + 4}m": (),
                    f"{wait + 5}m": firing,
                    f"{wait + 16}m": firing if kept else (),
                    f"{wait + 16 + kept}m": (),
                },
            ),
            Case(
                "the exporter restarts",
                {steady: f"{on}x{wait + 4} stale _x4 {on}x5"},
                {f"{wait + 4}m": firing, f"{wait + 7}m": firing if kept else ()},
            ),
            Case("for a moment", {steady: f"0x4 {brief} 0x20"}, {f"{wait + 6 + kept}m": ()}),
            Case("all is well", {steady: "0x30"}, {"30m": ()}),
            Case(
                "nobody tells any more", {steady: f"0x4 {brief} stale"}, {f"{wait + 9 + kept}m": ()}
            ),
        ),
    )


def event(alert: str, series: str, text: str, labels: Mapping[str, str], stays: int) -> Watched:
    """Make the cases of an alert on a counter's growth."""
    return Watched(
        alert,
        "warning",
        "operator",
        (
            Case(
                "three more",
                {series: "40x9 43x99"},
                {
                    "9m": (),
                    "11m": (on_gpu(text, **labels),),
                    f"{11 + stays}m": (),
                },
            ),
            Case("many, but all before", {series: "4711x99"}, {"60m": ()}),
            Case("a new board in its place", {series: "43x9 0x99"}, {"12m": ()}),
            Case("the GPU is gone", {series: "40x20 stale"}, {"25m": ()}),
        ),
    )


SECOND = 'gpu_exporter_gpu_state{node="n1",gpu="1",uuid="GPU-1"}'
FEWER = "Node n1 lacks 1 GPUs of those that its kubelet advertises, or that it had within 7d."
ALLOCATABLE = 'gpu_allocatable_devices{node="n1",resource="nvidia.com/gpu"}'


def known(count: int, values: str = "0x20") -> dict[str, str]:
    return {
        f'gpu_exporter_gpu_state{{node="n1",gpu="{i}",uuid="GPU-{i}"}}': values
        for i in range(count)
    }


def retired(pages: int) -> Firing:
    return on_gpu(
        f"{GPU_NAME} has retired {pages} memory pages, and one of these holds: another page waits"
        " for a reboot, or they are as many as NVIDIA replaces a board for (60)."
    )


WATCHED = (
    flag(
        "GPULost",
        "critical",
        f"gpu_exporter_gpu_state{{{GPU}}}",
        0,
        f"The driver can't reach {GPU_NAME} any more. What ran on it is dead; its node has one GPU"
        " less.",
    ),
    flag(
        "GPUHung",
        "critical",
        f"gpu_exporter_gpu_state{{{GPU}}}",
        2,
        f"A read of {GPU_NAME} does not return. What runs on it most likely hangs too.",
        on=2,
    ),
    flag(
        "GPUUnreadable",
        "warning",
        f"gpu_exporter_gpu_state{{{GPU}}}",
        10,
        f"Every read of {GPU_NAME} fails, though it is neither lost nor hung: of what runs on it"
        " nothing is known.",
        on=3,
    ),
    flag(
        "GPURowRemapPending",
        "warning",
        f"gpu_row_remap_pending{{{GPU}}}",
        5,
        f"{GPU_NAME} has a memory row with errors, and replaces it at its next reset.",
    ),
    flag(
        "GPURowRemapFailed",
        "critical",
        f"gpu_row_remap_failed{{{GPU}}}",
        5,
        f"{GPU_NAME} has no spare row left for one with errors: the board has to be replaced.",
    ),
    Watched(
        "GPUDriverDown",
        "critical",
        "operator",
        (
            Case(
                "unloaded",
                {DRIVER: "1x5 0x20", **known(8)},
                {
                    "15m": (),
                    "16m": (
                        Firing(
                            "On node n1 the GPU driver does not answer: none of its GPUs can be"
                            " used.",
                            {"node": "n1"},
                        ),
                    ),
                },
            ),
            Case(
                "never loaded, where the kubelet has GPUs",
                {DRIVER: "0x20", ALLOCATABLE: "8x3 0x20"},
                {
                    "9m": (),
                    "11m": (
                        Firing(
                            "On node n1 the GPU driver does not answer: none of its GPUs can be"
                            " used.",
                            {"node": "n1"},
                        ),
                    ),
                },
            ),
            Case("a node without GPUs", {DRIVER: "0x30"}, {"29m": ()}),
            Case("an upgrade", {DRIVER: "1x5 0x5 1x20", **known(8)}, {"17m": ()}),
            Case(
                "the kubelet's trouble",
                {'gpu_exporter_source_up{node="n1",source="kubelet"}': "0x20", **known(8)},
                {"17m": ()},
            ),
            Case(
                "the exporter is gone",
                {DRIVER: "1x5 0x5 stale", **known(8)},
                {"17m": ()},
            ),
        ),
    ),
    Watched(
        "GPUFewerThanAdvertised",
        "warning",
        "operator",
        (
            Case(
                "the kubelet has one more",
                {ALLOCATABLE: "8x20", **known(7)},
                {"9m": (), "11m": (Firing(FEWER, {"node": "n1"}),)},
            ),
            Case(
                "one does not come back from a reboot, and the kubelet knows",
                {
                    'gpu_allocatable_devices{node="n1",resource="nvidia.com/gpu"}': "2x9 1x99",
                    **known(1, "0x99"),
                    SECOND: "0x9 stale",
                },
                {"19m": (), "22m": (Firing(FEWER, {"node": "n1"}),)},
            ),
            Case(
                "half are lost, and what is left divides what the kubelet says",
                {
                    ALLOCATABLE: "8x3000",
                    **{
                        series: "1x3000" if index < 4 else "1x60 stale"
                        for index, series in enumerate(known(8))
                    },
                },
                {"59m": (), "2900m": (Firing(FEWER.replace("1 GPUs", "4 GPUs"), {"node": "n1"}),)},
            ),
            Case("as many", {ALLOCATABLE: "8x20", **known(8)}, {"15m": ()}),
            Case("shares count for themselves", {ALLOCATABLE: "32x20", **known(8)}, {"15m": ()}),
            Case(
                "one GPU of two is shared",
                {
                    ALLOCATABLE: "5x20",
                    **known(2),
                    'gpu_allocation_info{node="n1",uuid="GPU-1",sharing="time_sliced"}': "1x20",
                },
                {"15m": ()},
            ),
            Case(
                "slices are devices too",
                {
                    ALLOCATABLE: "7x20",
                    **known(1),
                    **{f'gpu_mig_info{{node="n1",uuid="MIG-{i}"}}': "1x20" for i in range(7)},
                },
                {"15m": ()},
            ),
            Case(
                "the exporter is gone",
                {ALLOCATABLE: "8x5 stale", **known(7, "0x5 stale")},
                {"15m": ()},
            ),
        ),
    ),
    Watched(
        "GPURecoveryActionNeeded",
        "critical",
        "operator",
        (
            Case(
                "a reset",
                {f"gpu_recovery_action{{{GPU}}}": "0x4 1x20"},
                {
                    "6m": (),
                    "7m": (
                        on_gpu(f"To recover {GPU_NAME} the driver asks for a reset of the GPU."),
                    ),
                },
            ),
            *(
                Case(
                    asked,
                    {f"gpu_recovery_action{{{GPU}}}": f"{number}x20"},
                    {"7m": (on_gpu(f"To recover {GPU_NAME} the driver asks for {asked}."),)},
                )
                for number, asked in (
                    (2, "a reboot of the node"),
                    (7, "a reboot of the system"),
                    (8, "an action that this exporter does not know"),
                )
            ),
            Case("nothing", {f"gpu_recovery_action{{{GPU}}}": "0x20"}, {"7m": ()}),
            Case(
                "it was reset",
                {f"gpu_recovery_action{{{GPU}}}": "1x4 0x20"},
                {
                    "3m": (
                        on_gpu(f"To recover {GPU_NAME} the driver asks for a reset of the GPU."),
                    ),
                    "14m": (
                        on_gpu(f"To recover {GPU_NAME} the driver asks for a reset of the GPU."),
                    ),
                    "15m": (),
                },
            ),
            Case(
                "the GPU is gone",
                {f"gpu_recovery_action{{{GPU}}}": "1x1 stale"},
                {"5m": ()},
            ),
        ),
    ),
    event(
        "GPUEccUncorrectable",
        f'gpu_ecc_errors_total{{{GPU},severity="uncorrected",location="dram"}}',
        f"{GPU_NAME} had 3 uncorrectable ECC errors in dram within 1h. What ran on it got wrong"
        " data or"
        " was ended.",
        {"location": "dram"},
        60,
    ),
    event(
        "GPUNvlinkErrors",
        f'gpu_nvlink_errors_total{{{GPU},kind="replay"}}',
        f"{GPU_NAME} had 3 NVLink errors of kind replay within 15m.",
        {"kind": "replay"},
        15,
    ),
    Watched(
        "GPURetiredPages",
        "warning",
        "operator",
        (
            Case(
                "one waits for a reboot",
                {
                    f'gpu_retired_pages{{{GPU},cause="single_bit"}}': "2x20",
                    f'gpu_retired_pages{{{GPU},cause="double_bit"}}': "1x20",
                    f"gpu_retired_pages_pending{{{GPU}}}": "0x4 1x20",
                },
                {
                    "9m": (),
                    "10m": (retired(3),),
                },
            ),
            Case(
                "as many as the board may have",
                {
                    f'gpu_retired_pages{{{GPU},cause="double_bit"}}': "60x20",
                    f"gpu_retired_pages_pending{{{GPU}}}": "0x20",
                },
                {"5m": (retired(60),)},
            ),
            Case(
                "a few, long retired",
                {
                    f'gpu_retired_pages{{{GPU},cause="double_bit"}}': "59x20",
                    f"gpu_retired_pages_pending{{{GPU}}}": "0x20",
                },
                {"20m": ()},
            ),
            Case(
                "the GPU is gone",
                {f'gpu_retired_pages{{{GPU},cause="double_bit"}}': "60x3 stale"},
                {"9m": ()},
            ),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
