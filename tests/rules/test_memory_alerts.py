"""Alerts on GPU memory that runs out, on Prometheus' own engine."""

from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check

HELD = 'node="n1",namespace="lab",pod="train-0",container="main",gpu="0",uuid="GPU-a"'
LABELS = {
    "node": "n1",
    "namespace": "lab",
    "pod": "train-0",
    "container": "main",
    "gpu": "0",
    "uuid": "GPU-a",
}
CONTAINER = "Container main of pod lab/train-0"
DEVICE = "GPU 0 (device GPU-a) of node n1"
USED = f"gpu_container_memory_used_bytes{{{HELD}}}"
LIMIT = f"gpu_container_memory_limit_bytes{{{HELD}}}"
KILLS = (
    'gpu_container_host_oom_kills_total{node="n1",namespace="lab",pod="train-0",container="main"}'
)


KILLED = Firing(
    f"{CONTAINER} on node n1 held a GPU and was killed by the kernel 1 time(s) within 15m: its"
    " limit of host memory, not of GPU memory, was too low.",
    {name: LABELS[name] for name in ("node", "namespace", "pod", "container")},
)


def info(held: str = HELD, exempt: str = "", workload: str = "train") -> str:
    return (
        f'gpu_allocation_info{{{held},workload_kind="Job",workload="{workload}",exempt="{exempt}"}}'
    )


def events(confidence: str, held: str = HELD) -> str:
    return f'gpu_container_oom_events_total{{{held},confidence="{confidence}"}}'


def out(count: int, confidence: str) -> Firing:
    return Firing(
        f"{CONTAINER} ran out of the memory of {DEVICE}: {count} time(s) within 15m (evidence:"
        f" {confidence}).",
        {**LABELS, "confidence": confidence},
    )


POSSIBLE = Firing(
    f"{CONTAINER} failed with the memory of {DEVICE} nearly full: 1 time(s) within 15m.",
    {**LABELS, "confidence": "possible"},
)


def loop(count: int, workload: str = "train") -> Firing:
    return Firing(
        f"Containers of Job lab/{workload} ended for want of GPU memory {count} time(s) within 1h."
        " Each restart loses work and holds GPUs for nothing.",
        {"namespace": "lab", "workload_kind": "Job", "workload": workload},
    )


def retry(i: int) -> str:
    return HELD.replace("train-0", f"train-{i}")


def growing(share: str) -> Firing:
    return Firing(
        f"{CONTAINER} uses {share} of the memory of {DEVICE}; at this rate it is full within"
        " 30m 0s.",
        LABELS,
    )


MOVING = " ".join(["50x9", *["77 79"] * 12])


def full(share: str) -> Firing:
    return Firing(
        f"{CONTAINER} uses {share} of the memory of {DEVICE}, and its use changes: it is not simply"
        " allocated beforehand.",
        LABELS,
    )


WATCHED = (
    Watched(
        "GPUOutOfMemory",
        "warning",
        "owner",
        (
            Case(
                "the first time",
                {events("confirmed"): "0x9 1x40", events("likely"): "0x50"},
                {"9m": (), "11m": (out(1, "confirmed"),), "30m": ()},
            ),
            Case(
                "its pod is gone after a minute",
                {events("likely"): "0x9 1x1 stale"},
                {"20m": (out(1, "likely"),), "30m": ()},
            ),
            Case(
                "before it was ever seen",
                {events("confirmed"): "_x19 1x5 stale"},
                {
                    "18m": (),
                    "19m": (out(1, "confirmed"),),
                    "30m": (out(1, "confirmed"),),
                    "40m": (),
                },
            ),
            Case(
                "before it was seen, and again",
                {events("confirmed"): "_x19 1x4 2x40"},
                {"25m": (out(2, "confirmed"),), "45m": ()},
            ),
            Case(
                "before it was seen, and we restarted",
                {events("confirmed"): "_x19 1x29 0x60"},
                {"30m": (out(1, "confirmed"),), "36m": (), "50m": (), "60m": ()},
            ),
            Case(
                "long ago, and the pod watch was down for half an hour",
                {events("confirmed"): "0x9 1x30 _x30 1x40"},
                {f"{m}m": () for m in range(30, 110, 3)},
            ),
            Case("only possible", {events("possible"): "0x9 1x40"}, {"12m": ()}),
            Case("long ago, and we restarted", {events("confirmed"): "3x9 0x40"}, {"12m": ()}),
        ),
    ),
    Watched(
        "GPUOutOfMemoryPossible",
        "info",
        "owner",
        (
            Case(
                "once",
                {events("possible"): "0x9 1x40"},
                {"9m": (), "11m": (POSSIBLE,), "30m": ()},
            ),
            Case(
                "before it was ever seen",
                {events("possible"): "_x19 1x5 stale"},
                {"18m": (), "20m": (POSSIBLE,), "40m": ()},
            ),
            Case("confirmed", {events("confirmed"): "0x9 1x40"}, {"12m": ()}),
            Case("its pod is gone", {events("possible"): "0x9 stale"}, {"12m": ()}),
        ),
    ),
    Watched(
        "GPUOutOfMemoryLoop",
        "critical",
        "owner",
        (
            Case(
                "a container that is restarted",
                {info(): "1x150", events("confirmed"): "0x9 1x9 2x9 3x120"},
                {"29m": (), "31m": (loop(3),), "95m": ()},
            ),
            Case(
                "a Job's retries, each a pod of its own",
                {
                    **{info(retry(i)): f"_x{10 * i} 1x9 stale" for i in range(3)},
                    **{events("likely", retry(i)): f"_x{10 * i} 0x8 1x1 stale" for i in range(3)},
                },
                {"28m": (), "31m": (loop(3),)},
            ),
            Case(
                "a Job's retries, each of which ends before it is seen",
                {
                    **{info(retry(i)): f"_x{10 * i} 1x1 stale" for i in range(3)},
                    **{events("confirmed", retry(i)): f"_x{10 * i} 1x5 stale" for i in range(3)},
                },
                {"18m": (), "22m": (loop(3),), "50m": (loop(3),), "90m": ()},
            ),
            Case(
                "one end of a container on two GPUs is one",
                {
                    info(): "1x50",
                    info(HELD.replace("GPU-a", "GPU-b")): "1x50",
                    events("confirmed"): "0x9 1x9 2x30",
                    events("confirmed", HELD.replace("GPU-a", "GPU-b")): "0x9 1x9 2x30",
                },
                {"31m": ()},
            ),
            Case(
                "its workload was not known at first",
                {
                    info(workload=""): "1x3 stale",
                    info(): "_x4 1x60",
                    events("confirmed"): "0x9 1x9 2x9 3x60",
                },
                {"31m": (loop(3),)},
            ),
            Case(
                "two of one, one of another",
                {
                    info(): "1x50",
                    info(retry(1), workload="other"): "1x50",
                    events("confirmed"): "0x9 1x9 2x50",
                    events("confirmed", retry(1)): "0x9 1x50",
                },
                {"31m": ()},
            ),
            Case(
                "long ago",
                {info(): "1x200", events("confirmed"): "7x200"},
                {"100m": ()},
            ),
        ),
    ),
    Watched(
        "GPUMemoryGrowing",
        "warning",
        "owner",
        (
            Case(
                "a leak",
                {USED: "20+1x60", LIMIT: "80x60"},
                {"35m": (), "36m": (growing("70%"),)},
            ),
            Case("a slow one", {USED: "20+0.2x60", LIMIT: "80x60"}, {"40m": ()}),
            Case(
                "a model is loaded and stays",
                {USED: "0x3 20 50 70x60", LIMIT: "80x70"},
                {f"{m}m": () for m in range(5, 60, 3)},
            ),
            Case(
                "up and down",
                {
                    USED: " ".join(["40 60 78"] * 13),
                    LIMIT: "80x60",
                },
                {"36m": ()},
            ),
            Case(
                "it does not mind",
                {USED: "20+1x60", LIMIT: "80x60", info(exempt="memory"): "1x60"},
                {"40m": ()},
            ),
            Case(
                "it minds other things",
                {USED: "20+1x60", LIMIT: "80x60", info(exempt="underuse"): "1x60"},
                {"40m": (growing("75%"),)},
            ),
            Case("a shared GPU has no limit", {USED: "20+1x60"}, {"40m": ()}),
            Case("it has ended", {USED: "20+1x30 stale", LIMIT: "80x30 stale"}, {"33m": ()}),
        ),
    ),
    Watched(
        "GPUMemoryNearlyFull",
        "info",
        "owner",
        (
            Case(
                "full and moving",
                {
                    USED: MOVING,
                    LIMIT: "80x60",
                },
                {"24m": (), "27m": (full("98.75%"),)},
            ),
            Case(
                "a server that takes all at its start",
                {USED: "1x4 78x60", LIMIT: "80x70"},
                {f"{m}m": () for m in range(5, 40, 3)},
            ),
            Case(
                "half full",
                {
                    USED: "40 42 40 42 40 42 40 42 40 42 40 42 40 42 40 42 40 42 40 42 40 42",
                    LIMIT: "80x60",
                },
                {"20m": ()},
            ),
            Case(
                "it does not mind",
                {
                    USED: MOVING,
                    LIMIT: "80x60",
                    info(exempt="all"): "1x60",
                },
                {"27m": ()},
            ),
            Case(
                "it has ended",
                {USED: "50x9 77 79 77 79 77 79 77 79 stale", LIMIT: "80x17 stale"},
                {"27m": ()},
            ),
        ),
    ),
    Watched(
        "GPUContainerHostOOMKilled",
        "warning",
        "owner",
        (
            Case(
                "once",
                {KILLS: "0x9 1x40"},
                {
                    "9m": (),
                    "11m": (KILLED,),
                    "30m": (),
                },
            ),
            Case("never", {KILLS: "0x40"}, {"20m": ()}),
            Case("we restarted", {KILLS: "2x9 0x40"}, {"12m": ()}),
            Case(
                "before it was ever seen",
                {KILLS: "_x9 1x5 stale"},
                {"8m": (), "10m": (KILLED,), "20m": (KILLED,), "30m": ()},
            ),
            Case("long gone", {KILLS: "2x40 stale"}, {"35m": (), "42m": ()}),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
