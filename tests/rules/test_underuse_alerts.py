"""Alerts on GPUs that are held and not used, on Prometheus' own engine."""

from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check
from tests.rules.things import (
    CONTAINER,
    DEVICE,
    HELD,
    HELD_LABELS,
    info,
)

USED = f"gpu_container_memory_used_bytes{{{HELD}}}"
BUSY = f"gpu_container_busy_seconds_total{{{HELD}}}"
IDLE = f"gpu_container_idle_seconds{{{HELD}}}"
"""Whatever it says: what has just pulsed, or is known to a new exporter, is at 0."""
ALLOCATED = f"gpu_container_allocated_seconds_total{{{HELD}}}"
PULSES = " ".join(f"{5 * i}x19" for i in range(10))
"""Five seconds of work every twenty minutes."""


def holding(busy: str = "0x100", of: str = info(), minutes: int = 100) -> dict[str, str]:
    return {
        BUSY: busy,
        ALLOCATED: f"0+60x{minutes}",
        IDLE: f"0x{minutes}",
        of: f"1x{minutes}",
    }


def idle(share: str = "0%") -> Firing:
    return Firing(
        f"{CONTAINER} kept {DEVICE} busy for {share} of the last 30m, which is less"
        " than 1%. No other container can use the GPU meanwhile.",
        HELD_LABELS,
    )


def underutilized(share: str) -> Firing:
    labels = {name: HELD_LABELS[name] for name in ("node", "namespace", "pod", "container")}
    return Firing(
        f"{CONTAINER} on node n1 kept its GPUs busy for {share} of the last 30m, less than 50%.",
        labels,
    )


HOLDING = Firing(
    f"{CONTAINER} holds 20GiB of the memory of {DEVICE}, and kept it busy for less than 1% of the"
    " last 30m.",
    HELD_LABELS,
)
SECOND = HELD.replace("GPU-a", "GPU-b").replace('gpu="0"', 'gpu="1"')


WATCHED = (
    Watched(
        "GPUContainerIdle",
        "warning",
        "owner",
        (
            Case(
                "idle since its start, after an hour's grace",
                holding(),
                {"64m": (), "65m": (idle(),)},
            ),
            Case(
                "idle later on",
                holding("0+60x100 6000x100", minutes=200),
                {"134m": (), "135m": (idle(),)},
            ),
            Case(
                "a pulse now and then",
                holding(PULSES, minutes=200),
                {"70m": (idle("0.2778%"),), "130m": (idle("0.2778%"),), "190m": (idle("0.2778%"),)},
            ),
            Case(
                "at work now and then",
                holding(" ".join(f"{60 * i}x19" for i in range(10)), minutes=200),
                {f"{m}m": () for m in range(60, 190, 10)},
            ),
            Case("nobody can tell", {ALLOCATED: "0+60x100", info(): "1x100"}, {"90m": ()}),
            Case(
                "all of its small share of a shared GPU",
                {**holding("0+0.5x100"), ALLOCATED: "0+0.6x100"},
                {"90m": ()},
            ),
            Case("it is exempt", holding(of=info(exempt="memory,underuse")), {"90m": ()}),
            Case(
                "it is exempt from something else",
                holding(of=info(exempt="memory")),
                {"90m": (idle(),)},
            ),
            Case(
                "our restart while it idles, with an address of its own and counters from 0",
                {
                    f'gpu_container_busy_seconds_total{{{HELD},instance="1"}}': (
                        "0+60x40 2400x60 stale"
                    ),
                    f'gpu_container_allocated_seconds_total{{{HELD},instance="1"}}': (
                        "0+60x101 stale"
                    ),
                    f'gpu_container_busy_seconds_total{{{HELD},instance="2"}}': "_x104 0x100",
                    f'gpu_container_allocated_seconds_total{{{HELD},instance="2"}}': (
                        "_x104 0+60x100"
                    ),
                    IDLE: "0x101 _x2 0x100",
                    info(): "1x101 _x2 1x100",
                },
                {f"{m}m": (idle(),) for m in range(90, 190, 2)},
            ),
            Case(
                "an outage of five minutes an hour before",
                holding(minutes=150)
                | {BUSY: "0x20 _x5 0x140", IDLE: "0x20 _x5 0x140", info(): "1x20 _x5 1x140"},
                {"82m": (idle(),)},
            ),
            Case(
                "the node vanishes: it stays ten minutes, and does not claim that all is well",
                {s: f"{v} stale" for s, v in holding("0x80", minutes=80).items()},
                {"85m": (idle(),), "95m": ()},
            ),
            Case(
                "it has ended, and its counters are told for some minutes more",
                {**holding(), IDLE: "0x66 stale", info(): "1x66 stale"},
                {"66m": (idle(),), "78m": ()},
            ),
            Case(
                "it ends before it is told, and its counters are told for some minutes more",
                {**holding(), IDLE: "0x63 stale", info(): "1x63 stale"},
                {f"{m}m": () for m in range(60, 80)},
            ),
        ),
    ),
    Watched(
        "GPUContainerIdle",
        "warning",
        "owner",
        (
            Case("its namespace is exempt", holding(), {"90m": ()}),
            Case(
                "another namespace's is not",
                {s.replace("lab", "laboratory"): v for s, v in holding().items()},
                {
                    "90m": (
                        Firing(
                            idle().description.replace("lab/", "laboratory/"),
                            {**HELD_LABELS, "namespace": "laboratory"},
                        ),
                    )
                },
            ),
        ),
        {"exemptNamespaces": ("kube-system", "lab")},
    ),
    Watched(
        "GPUContainerUnderutilized",
        "warning",
        "owner",
        (
            Case(
                "a fifth of its time",
                {BUSY: "0+12x100", ALLOCATED: "0+60x100", info(): "1x100"},
                {"89m": (), "90m": (underutilized("20%"),)},
            ),
            Case(
                "two GPUs, of which one works",
                {
                    BUSY: "0+48x100",
                    ALLOCATED: "0+60x100",
                    info(): "1x100",
                    f"gpu_container_busy_seconds_total{{{SECOND}}}": "0x100",
                    f"gpu_container_allocated_seconds_total{{{SECOND}}}": "0+60x100",
                    info(SECOND): "1x100",
                },
                {"95m": (underutilized("40%"),)},
            ),
            Case(
                "a quarter of a shared GPU, and all of that",
                {BUSY: "0+15x100", ALLOCATED: "0+15x100", info(): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it works",
                {BUSY: "0+50x100", ALLOCATED: "0+60x100", info(): "1x100"},
                {"90m": ()},
            ),
            Case("it idles, which is another alert's", holding(), {"100m": ()}),
            Case(
                "it has just stopped, and comes to idle",
                holding("0+54x100 5400x100", minutes=200),
                {f"{m}m": () for m in range(100, 200, 3)},
            ),
            Case(
                "a pulse now and then, of a second a minute on average",
                holding(" ".join(f"{20 * i}x19" for i in range(10)), minutes=200),
                {"110m": (underutilized("1.111%"),), "150m": (underutilized("1.111%"),)},
            ),
            Case("nobody can tell", {ALLOCATED: "0+60x100", info(): "1x100"}, {"90m": ()}),
            Case(
                "it is exempt",
                {BUSY: "0+12x100", ALLOCATED: "0+60x100", info(exempt="all"): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it has ended",
                {BUSY: "0+12x95 stale", ALLOCATED: "0+60x95 stale", info(): "1x95 stale"},
                {"95m": (underutilized("20%"),), "97m": ()},
            ),
        ),
    ),
    Watched(
        "GPUMemoryHeldIdle",
        "warning",
        "owner",
        (
            Case(
                "a notebook that was left open",
                {**holding(), USED: f"{20 * 1024**3}x100"},
                {"64m": (), "65m": (HOLDING,)},
            ),
            Case(
                "next to nothing",
                {**holding(), USED: "500e6x100"},
                {"90m": ()},
            ),
            Case(
                "it works",
                {**holding("0+60x100"), USED: f"{20 * 1024**3}x100"},
                {"90m": ()},
            ),
            Case(
                "it is exempt",
                {**holding(of=info(exempt="underuse")), USED: f"{20 * 1024**3}x100"},
                {"90m": ()},
            ),
            Case(
                "it ends before it is told",
                {
                    **{
                        s: v.replace("x63", "x63 stale")
                        for s, v in holding("0x63", minutes=63).items()
                    },
                    USED: f"{20 * 1024**3}x63 stale",
                },
                {"66m": ()},
            ),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
