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
    sm_count: int
    """Of the whole board. Slices together have fewer."""
    profiles: Mapping[str, tuple[float, int]]
    """GiB of memory and SMs that the driver gives a slice, by profile, the smallest first."""


# Memory and SMs: ``nvidia-smi mig -lgip``. The PCIe board's SMs are what seven slices have at the
# least, for the driver deals it whole clusters of different sizes.
BOARDS: Final = (
    Board("NVIDIA A30.*", 56, {"1g.6gb": (5.8, 14), "2g.12gb": (11.6, 28)}),
    Board(
        "NVIDIA A100.*40GB.*",
        108,
        {"1g.5gb": (4.7, 14), "2g.10gb": (9.7, 28), "3g.20gb": (19.5, 42)},
    ),
    Board(
        "NVIDIA A100.*80GB.*",
        108,
        {"1g.10gb": (9.5, 14), "2g.20gb": (19.5, 28), "3g.40gb": (39.2, 42)},
    ),
    Board(
        "NVIDIA H100 80GB.*",
        132,
        {"1g.10gb": (9.5, 16), "2g.20gb": (19.5, 32), "3g.40gb": (39.2, 60)},
    ),
    Board(
        "NVIDIA H100 PCIe",
        114,
        {"1g.10gb": (9.5, 14), "2g.20gb": (19.5, 28), "3g.40gb": (39.2, 42)},
    ),
    Board(
        "NVIDIA H100 NVL",
        132,
        {"1g.12gb": (10.7, 16), "2g.24gb": (21.6, 32), "3g.47gb": (46.1, 60)},
    ),
    Board(
        "NVIDIA GH200 480GB",
        132,
        {"1g.12gb": (11.0, 16), "2g.24gb": (22.5, 32), "3g.48gb": (46.5, 60)},
    ),
    Board(
        "NVIDIA H200.*",
        132,
        {"1g.18gb": (16.0, 16), "2g.35gb": (32.5, 32), "3g.71gb": (69.5, 60)},
    ),
    Board(
        "NVIDIA B200.*",
        148,
        {"1g.23gb": (21.0, 18), "2g.45gb": (43.0, 36), "3g.90gb": (88.0, 70)},
    ),
)


def memory_expression() -> str:
    """Give the bytes of each profile that a board could have: a series for each of both."""
    return _each_profile(lambda _, gib, __: str(round(gib * 1024**3)))


def sm_expression() -> str:
    """Give each profile's part of the board's SMs."""
    return _each_profile(lambda board, _, sms: f"{sms} / {board.sm_count}")


def _each_profile(value: Callable[[Board, float, int], str]) -> str:
    branches = "\n  or\n".join(
        f"  label_replace(gpu_info{{{matching('model', board.models)}}}"
        f" * {value(board, gib, sms)},"
        f' "profile", "{profile}", "", "")'
        for board in BOARDS
        for profile, (gib, sms) in board.profiles.items()
    )
    return f"max by (node, uuid, gpu, profile) (\n{branches}\n)"
