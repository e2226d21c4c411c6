"""Alerts on GPUs that are slower than they could be, and on links, on Prometheus' own engine."""

from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check
from tests.rules.things import GPU, GPU_NAME, on_gpu

STATE = f"gpu_exporter_gpu_state{{{GPU}}}"
BUSY = f"gpu_busy_seconds_total{{{GPU}}}"


def slowdown(alert: str, reason: str, text: str) -> Watched:
    seconds = f'gpu_clock_event_seconds_total{{{GPU},reason="{reason}"}}'
    active = f'gpu_clock_event_active{{{GPU},reason="{reason}"}}'
    other = f'gpu_clock_event_seconds_total{{{GPU},reason="sw_power_cap"}}'
    return Watched(
        alert,
        "warning",
        "operator",
        (
            Case(
                "half of the time",
                {seconds: "900x9 900+30x40", STATE: "0x40"},
                {"12m": (), "20m": (on_gpu(f"{GPU_NAME} was {text} for 50% of the last 5m."),)},
            ),
            Case(
                "it stays a while after",
                {seconds: "900+30x20 1500x40", STATE: "0x60"},
                {"28m": (on_gpu(f"{GPU_NAME} was {text} for 20% of the last 5m."),), "40m": ()},
            ),
            Case(
                "the driver keeps no time",
                {active: "1x40", STATE: "0x40"},
                {"10m": (on_gpu(f"{GPU_NAME} was {text} for 100% of the last 5m."),)},
            ),
            Case("hours ago", {seconds: "90000x40", STATE: "0x40"}, {"30m": ()}),
            Case("the limit of its power", {other: "0+60x40"}, {"30m": ()}),
            Case("the GPU is gone", {seconds: "0+30x3 stale", STATE: "0x3 stale"}, {"12m": ()}),
        ),
    )


def worker(i: int) -> str:
    return f'node="n1",namespace="lab",pod="train-{i}",container="main",gpu="{i}",uuid="GPU-{i}"'


def job(clocks: list[int], busy: float = 0.9) -> dict[str, str]:
    """Make a job with a GPU for each clock in MHz."""
    series: dict[str, str] = {}
    for i, clock in enumerate(clocks):
        held = worker(i)
        series |= {
            f'gpu_allocation_info{{{held},gpu_uuid="GPU-{i}",sharing="exclusive",'
            'workload_kind="PyTorchJob",workload="train"}': "1x60",
            f"gpu_container_allocated_seconds_total{{{held}}}": "0+60x60",
            f"gpu_container_busy_seconds_total{{{held}}}": f"0+{60 * busy}x60",
            f'gpu_clock_hertz{{node="n1",gpu="{i}",uuid="GPU-{i}",domain="sm"}}': f"{clock}e6x60",
        }
    return series


def model(i: int, name: str) -> str:
    return f'gpu_info{{node="n1",gpu="{i}",uuid="GPU-{i}",model="{name}"}}'


SLOWER = Firing(
    "GPU 3 (GPU-3) of node n1 runs 29.55% below the SM clock that is usual among the GPUs of"
    " PyTorchJob lab/train: all of them wait for it.",
    {
        "node": "n1",
        "namespace": "lab",
        "pod": "train-3",
        "container": "main",
        "gpu": "3",
        "uuid": "GPU-3",
        "workload_kind": "PyTorchJob",
        "workload": "train",
    },
)

WIDTH, WIDTH_MAX = f"gpu_pcie_link_width{{{GPU}}}", f"gpu_pcie_link_width_max{{{GPU}}}"
GENERATION = f"gpu_pcie_link_generation{{{GPU}}}"
GENERATION_MAX = f"gpu_pcie_link_generation_max{{{GPU}}}"


def pcie(what: str, value: int) -> Firing:
    return on_gpu(
        f"The PCIe {what} of {GPU_NAME} was at most {value} over 10m of work, less than board and"
        " slot"
        " can do together.",
        what=what,
    )


def nvlink_down(count: int) -> Firing:
    return on_gpu(
        f"{count} NVLink links of {GPU_NAME} are down that were up within 1d, or that are up on the"
        " like"
        " boards beside it."
    )


LINKS = f"gpu_nvlink_active_links{{{GPU}}}"
INFO = f'gpu_info{{{GPU},model="NVIDIA H100 80GB HBM3"}}'
OTHER = 'node="n1",gpu="1",uuid="GPU-b"'

MEMORY_MAX = f'gpu_temperature_threshold_celsius{{{GPU},threshold="memory_max"}}'
BRAKE = f'gpu_clock_event_seconds_total{{{GPU},reason="hw_power_brake_slowdown"}}'
BRAKE_NOW = f'gpu_clock_event_active{{{GPU},reason="hw_power_brake_slowdown"}}'

WATCHED = (
    slowdown("GPUThermalSlowdown", "hw_thermal_slowdown", "slowed down by heat"),
    slowdown("GPUThermalSlowdown", "sw_thermal_slowdown", "slowed down by heat"),
    Watched(
        "GPUPowerBrakeSlowdown",
        "warning",
        "operator",
        (
            Case(
                "half of the time",
                {BRAKE: "900x9 900+30x40", STATE: "0x60"},
                {
                    "12m": (),
                    "20m": (
                        on_gpu(
                            f"{GPU_NAME} was slowed down by the power brake for 50% of the last"
                            " 5m: the"
                            " chassis or rack lacks power."
                        ),
                    ),
                },
            ),
            Case("hours ago", {BRAKE: "9e4x40", STATE: "0x60"}, {"30m": ()}),
            Case(
                "heat",
                {
                    BRAKE.replace("power_brake", "thermal"): "0+30x40",
                    BRAKE_NOW.replace("power_brake", "thermal"): "1x40",
                },
                {"30m": ()},
            ),
            Case("the GPU is gone", {BRAKE: "0+30x3 stale", BRAKE_NOW: "1x3 stale"}, {"12m": ()}),
        ),
    ),
    Watched(
        "GPUMemoryHot",
        "warning",
        "operator",
        (
            Case(
                "near its maximum",
                {
                    f'gpu_temperature_celsius{{{GPU},sensor="memory"}}': "70x4 93x20",
                    MEMORY_MAX: "95x30",
                },
                {
                    "9m": (),
                    "10m": (
                        on_gpu(
                            f"The memory of {GPU_NAME} is at 93 °C, less than 3 °C below its"
                            " maximum."
                        ),
                    ),
                },
            ),
            Case(
                "warm",
                {
                    f'gpu_temperature_celsius{{{GPU},sensor="memory"}}': "92x30",
                    MEMORY_MAX: "95x30",
                },
                {"30m": ()},
            ),
            Case(
                "the board tells no maximum, and the chip is another matter",
                {
                    f'gpu_temperature_celsius{{{GPU},sensor="memory"}}': "99x30",
                    f'gpu_temperature_celsius{{{GPU},sensor="gpu"}}': "99x30",
                    f'gpu_temperature_threshold_celsius{{{GPU},threshold="gpu_max"}}': "87x30",
                },
                {"30m": ()},
            ),
            Case(
                "the GPU is gone",
                {
                    f'gpu_temperature_celsius{{{GPU},sensor="memory"}}': "94x3 stale",
                    MEMORY_MAX: "95x3 stale",
                },
                {"10m": ()},
            ),
        ),
    ),
    Watched(
        "GPUSlowerThanPeers",
        "warning",
        "operator",
        (
            Case(
                "one of eight",
                job([1980, 1975, 1985, 1395, 1980, 1990, 1985, 1980]),
                {"10m": (), "30m": (SLOWER,)},
            ),
            Case(
                "a replica without requests",
                {
                    **job([1980, 1975, 1985, 345, 1980, 1990]),
                    f"gpu_container_busy_seconds_total{{{worker(3)}}}": "0x60",
                },
                {f"{m}m": () for m in range(20, 60, 5)},
            ),
            Case(
                "one of another model",
                {
                    **job([1980, 1975, 1985, 1410, 1980, 1990]),
                    **{model(i, "NVIDIA H100 80GB HBM3"): "1x60" for i in (0, 1, 2, 4, 5)},
                    model(3, "NVIDIA A100-SXM4-40GB"): "1x60",
                },
                {f"{m}m": () for m in range(20, 60, 5)},
            ),
            Case(
                "one of several of a model",
                {
                    **job([1980, 1975, 1985, 1395, 1980, 1990, 1985, 1980]),
                    **{model(i, "NVIDIA H100 80GB HBM3"): "1x60" for i in range(8)},
                },
                {"30m": (SLOWER,)},
            ),
            Case("all alike", job([1980, 1975, 1985, 1980, 1980, 1990]), {"30m": ()}),
            Case("all different", job([1980, 1700, 1500, 1395, 1200, 1000]), {"30m": ()}),
            Case("too few to tell", job([1980, 1980, 1395]), {"30m": ()}),
            Case(
                "the job waits for its data", job([1980, 1975, 1985, 345, 1980], 0.2), {"30m": ()}
            ),
            Case(
                "the job has ended",
                {
                    series: values.replace("x60", "x20 stale")
                    for series, values in job([1980, 1975, 1985, 1395, 1980, 1990]).items()
                },
                {"40m": ()},
            ),
        ),
    ),
    Watched(
        "GPUPcieLinkDegraded",
        "warning",
        "operator",
        (
            Case(
                "narrow at work",
                {WIDTH: "8x40", WIDTH_MAX: "16x40", BUSY: "0+30x40"},
                {"10m": (), "20m": (pcie("width", 8),)},
            ),
            Case(
                "slow and narrow at work",
                {
                    WIDTH: "4x40",
                    WIDTH_MAX: "16x40",
                    GENERATION: "1x40",
                    GENERATION_MAX: "5x40",
                    BUSY: "0+30x40",
                },
                {"20m": (pcie("generation", 1), pcie("width", 4))},
            ),
            Case(
                "slow and idle",
                {GENERATION: "1x40", GENERATION_MAX: "5x40", BUSY: "0x40"},
                {"30m": ()},
            ),
            Case(
                "up to speed now and then",
                {GENERATION: "1x8 5 1x8 5 1x8 5 1x8 5", GENERATION_MAX: "5x40", BUSY: "0+30x40"},
                {"30m": ()},
            ),
            Case(
                "the GPU is gone",
                {WIDTH: "8x8 stale", WIDTH_MAX: "16x8 stale", BUSY: "0+30x8 stale"},
                {"20m": ()},
            ),
        ),
    ),
    Watched(
        "GPUPcieReplays",
        "warning",
        "operator",
        (
            Case(
                "twelve a minute",
                {f"gpu_pcie_replays_total{{{GPU}}}": "500+12x40"},
                {
                    "13m": (),
                    "16m": (
                        on_gpu(
                            f"{GPU_NAME} sent 12 PCIe packets a minute again over 15m: slot,"
                            " riser or"
                            " cable."
                        ),
                    ),
                },
            ),
            Case("a few", {f"gpu_pcie_replays_total{{{GPU}}}": "500+2x40"}, {"30m": ()}),
            Case("many, all before", {f"gpu_pcie_replays_total{{{GPU}}}": "99999x40"}, {"30m": ()}),
            Case(
                "the GPU is gone",
                {f"gpu_pcie_replays_total{{{GPU}}}": "500+12x3 stale"},
                {"30m": ()},
            ),
        ),
    ),
    Watched(
        "GPUNvlinkDown",
        "warning",
        "operator",
        (
            Case(
                "two go down",
                {LINKS: "18x9 16x40"},
                {"14m": (), "15m": (nvlink_down(2),)},
            ),
            Case(
                "one did not come up, on the like boards it did",
                {
                    LINKS: "17x40",
                    INFO: "1x40",
                    f"gpu_nvlink_active_links{{{OTHER}}}": "18x40",
                    f'gpu_info{{{OTHER},model="NVIDIA H100 80GB HBM3"}}': "1x40",
                },
                {"10m": (nvlink_down(1),)},
            ),
            Case(
                "another model has more",
                {
                    LINKS: "12x40",
                    INFO: "1x40",
                    f"gpu_nvlink_active_links{{{OTHER}}}": "18x40",
                    f'gpu_info{{{OTHER},model="NVIDIA B200"}}': "1x40",
                },
                {"10m": ()},
            ),
            Case(
                "no bridge on this board",
                {
                    LINKS: "0x40",
                    INFO: "1x40",
                    f"gpu_nvlink_active_links{{{OTHER}}}": "4x40",
                    f'gpu_info{{{OTHER},model="NVIDIA H100 80GB HBM3"}}': "1x40",
                },
                {"40m": ()},
            ),
            Case("a moment", {LINKS: "18x9 16x3 18x40"}, {"16m": ()}),
            Case("the GPU is gone", {LINKS: "18x9 16x3 stale"}, {"16m": ()}),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
