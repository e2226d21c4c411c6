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

IDLE = f"gpu_container_idle_seconds{{{HELD}}}"
USED = f"gpu_container_memory_used_bytes{{{HELD}}}"
BUSY = f"gpu_container_busy_seconds_total{{{HELD}}}"
ALLOCATED = f"gpu_container_allocated_seconds_total{{{HELD}}}"


def idle(duration: str) -> Firing:
    return Firing(
        f"{CONTAINER} has left {DEVICE} idle for {duration}. Nobody else can have the GPU"
        " meanwhile.",
        HELD_LABELS,
    )


def underutilised(share: str) -> Firing:
    labels = {name: HELD_LABELS[name] for name in ("node", "namespace", "pod", "container")}
    return Firing(
        f"{CONTAINER} on node n1 kept its GPUs busy for {share} of the last 30m, less than 50%.",
        labels,
    )


HOLDING = Firing(
    f"{CONTAINER} holds 20GiB of the memory of {DEVICE}, idle for 30m 0s or longer.", HELD_LABELS
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
                {IDLE: "0+60x100", info(): "1x100"},
                {"64m": (), "65m": (idle("1h 5m 0s"),)},
            ),
            Case(
                "idle later on",
                {IDLE: "0x99 0+60x100", info(): "1x200"},
                {"134m": (), "135m": (idle("35m 0s"),)},
            ),
            Case(
                "at work now and then",
                {IDLE: "0x89 0+60x25 0+60x25 0+60x25", info(): "1x200"},
                {"164m": ()},
            ),
            Case(
                "it is exempt",
                {IDLE: "0+60x100", info(exempt="memory,underuse"): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it is exempt from something else",
                {IDLE: "0+60x100", info(exempt="memory"): "1x100"},
                {"90m": (idle("1h 30m 0s"),)},
            ),
            Case(
                "our restart, and an outage of five minutes an hour before",
                {IDLE: "0+60x150", info(): "1x20 _x5 1x140"},
                {"82m": (idle("1h 22m 0s"),)},
            ),
            Case(
                "the node vanishes: it stays ten minutes, and does not claim that all is well",
                {IDLE: "0+60x80 stale", info(): "1x80 stale"},
                {"85m": (idle("1h 20m 0s"),), "95m": ()},
            ),
        ),
    ),
    Watched(
        "GPUContainerIdle",
        "warning",
        "owner",
        (
            Case("its namespace is exempt", {IDLE: "0+60x100", info(): "1x100"}, {"90m": ()}),
            Case(
                "another namespace's is not",
                {
                    IDLE.replace("lab", "laboratory"): "0+60x100",
                    info().replace("lab", "laboratory"): "1x100",
                },
                {
                    "90m": (
                        Firing(
                            idle("1h 30m 0s").description.replace("lab/", "laboratory/"),
                            {**HELD_LABELS, "namespace": "laboratory"},
                        ),
                    )
                },
            ),
        ),
        {"exemptNamespaces": ("kube-system", "lab")},
    ),
    Watched(
        "GPUContainerUnderutilised",
        "warning",
        "owner",
        (
            Case(
                "a fifth of its time",
                {BUSY: "0+12x100", ALLOCATED: "0+60x100", info(): "1x100"},
                {"74m": (), "75m": (underutilised("20%"),)},
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
                {"90m": (underutilised("40%"),)},
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
            Case(
                "it idles, which is another alert's",
                {BUSY: "0x100", ALLOCATED: "0+60x100", info(): "1x100"},
                {"90m": ()},
            ),
            Case("nobody can tell", {ALLOCATED: "0+60x100", info(): "1x100"}, {"90m": ()}),
            Case(
                "it is exempt",
                {BUSY: "0+12x100", ALLOCATED: "0+60x100", info(exempt="all"): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it has ended",
                {BUSY: "0+12x80 stale", ALLOCATED: "0+60x80 stale", info(): "1x80 stale"},
                {"80m": (underutilised("20%"),), "82m": ()},
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
                {IDLE: "0+60x100", USED: f"{20 * 1024**3}x100", info(): "1x100"},
                {"64m": (), "65m": (HOLDING,)},
            ),
            Case(
                "next to nothing",
                {IDLE: "0+60x100", USED: "500e6x100", info(): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it works",
                {IDLE: "0x100", USED: f"{20 * 1024**3}x100", info(): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it is exempt",
                {IDLE: "0+60x100", USED: f"{20 * 1024**3}x100", info(exempt="underuse"): "1x100"},
                {"90m": ()},
            ),
            Case(
                "it ends before it is told",
                {IDLE: "0+60x63 stale", USED: f"{20 * 1024**3}x63 stale", info(): "1x63 stale"},
                {"66m": ()},
            ),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
