"""MIG profiles by model: what a board can be cut into."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from rules.alert import matching


@dataclass(frozen=True, slots=True)
class Board:
    """Boards with the same profiles, as NVIDIA's MIG user guide lists them under "Supported GPUs".

    Profiles up to half a board; what needs more has no use for a slice.
    """

    models: str
    """Regular expression over the names that the driver gives."""
    compute_slices: int
    """Of the whole board."""
    profiles: Mapping[str, float]
    """GiB of memory that the driver gives a slice, by profile, the smallest first."""


BOARDS: Final = (
    Board("NVIDIA A30.*", 4, {"1g.6gb": 5.8, "2g.12gb": 11.6}),
    Board("NVIDIA A100.*40GB.*", 7, {"1g.5gb": 4.7, "2g.10gb": 9.7, "3g.20gb": 19.5}),
    Board(
        "NVIDIA (A100.*80GB.*|H100 80GB.*|H100 PCIe)",
        7,
        {"1g.10gb": 9.5, "2g.20gb": 19.5, "3g.40gb": 39.2},
    ),
    Board("NVIDIA H100 NVL", 7, {"1g.12gb": 10.7, "2g.24gb": 21.6, "3g.47gb": 46.1}),
    Board("NVIDIA GH200 480GB", 7, {"1g.12gb": 11.0, "2g.24gb": 22.5, "3g.48gb": 46.5}),
    Board("NVIDIA H200.*", 7, {"1g.18gb": 16.0, "2g.35gb": 32.5, "3g.71gb": 69.5}),
    Board("NVIDIA B200.*", 7, {"1g.23gb": 21.0, "2g.45gb": 43.0, "3g.90gb": 88.0}),
)


def memory_expression() -> str:
    """Give the bytes of each profile that a board could have: a series for each of both."""
    return _each_profile(lambda _, __, gib: str(round(gib * 1024**3)))


def sm_expression() -> str:
    """Give each profile's part of the board's SMs."""
    return _each_profile(lambda board, profile, _: f"{profile[0]} / {board.compute_slices}")


def _each_profile(value: Callable[[Board, str, float], str]) -> str:
    branches = "\n  or\n".join(
        f"  label_replace(gpu_info{{{matching('model', board.models)}}}"
        f" * {value(board, profile, gib)},"
        f' "profile", "{profile}", "", "")'
        for board in BOARDS
        for profile, gib in board.profiles.items()
    )
    return f"max by (node, uuid, gpu, profile) (\n{branches}\n)"
