"""Boards and nodes that the simulation knows, with the values that the real hardware reports.

Sources: ``nvidia-smi -q`` of the boards (public captures), ``nvidia-smi mig -lgip`` for MIG
profiles. Values are in the units of those reports (MiB, MHz); readings convert them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class MigProfile:
    """A GPU instance profile: what one instance of this size gets of the board."""

    name: str
    compute_slices: int
    """Of 7."""
    memory_slices: int
    """Of 8."""
    sm_count: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Board:
    """A GPU model: everything that is the same for each board of it."""

    model: str
    architecture: str
    vbios_version: str
    sm_count: int
    memory_mib: int
    reserved_mib: int
    power_limit_watts: float
    power_idle_watts: float
    power_gain: float
    """How hard the model is driven by the same load: above 1 it runs into its power limit."""
    clock_max_mhz: Mapping[str, float]
    clock_idle_mhz: Mapping[str, float]
    idle_performance_state: int
    temperature_idle_celsius: float
    temperature_threshold_celsius: Mapping[str, float]
    pcie_generation: int
    engines: tuple[str, ...]
    nvlinks: int = 0
    nvlink_bytes_per_second: float = 0.0
    remap_banks: int | None = None
    """Memory banks with spare rows; ``None``: the board retires pages instead of remapping rows."""
    memory_temperature: bool = True
    gpm: bool = False
    """Has the GPU performance monitor, and with it activity, margin and recovery action."""
    mig: tuple[MigProfile, ...] = ()
    """Empty: the board can't do MIG."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A node of eight boards as it boots."""

    name: str
    board: Board
    driver_version: str
    cuda_version: str
    layouts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """MIG layout by GPU index; GPUs without one have MIG off."""

    @property
    def gpu_count(self) -> int:
        return len(PCI_BUSES)


PCI_BUSES: Final = (0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD)
"""Of an eight-GPU HGX node, in index order."""

T4: Final = Board(
    model="Tesla T4",
    architecture="Turing",
    vbios_version="90.04.38.00.03",
    sm_count=40,
    memory_mib=15360,
    reserved_mib=393,
    power_limit_watts=70.0,
    power_idle_watts=14.0,
    power_gain=1.5,
    clock_max_mhz={"graphics": 1590, "sm": 1590, "memory": 5001, "video": 1470},
    clock_idle_mhz={"graphics": 300, "sm": 300, "memory": 405, "video": 540},
    idle_performance_state=8,
    temperature_idle_celsius=38.0,
    temperature_threshold_celsius={"shutdown": 96, "slowdown": 93, "gpu_max": 85},
    pcie_generation=3,
    engines=("encoder", "decoder"),
    memory_temperature=False,
)

A100: Final = Board(
    model="NVIDIA A100-SXM4-40GB",
    architecture="Ampere",
    vbios_version="92.00.45.00.03",
    sm_count=108,
    memory_mib=40960,
    reserved_mib=635,
    power_limit_watts=400.0,
    power_idle_watts=52.0,
    power_gain=1.1,
    clock_max_mhz={"graphics": 1410, "sm": 1410, "memory": 1215, "video": 1290},
    clock_idle_mhz={"graphics": 210, "sm": 210, "memory": 1215, "video": 585},
    idle_performance_state=0,
    temperature_idle_celsius=29.0,
    temperature_threshold_celsius={
        "shutdown": 92,
        "slowdown": 89,
        "gpu_max": 85,
        "memory_max": 95,
    },
    pcie_generation=4,
    engines=("encoder", "decoder", "jpeg", "ofa"),
    nvlinks=12,
    nvlink_bytes_per_second=300e9,
    remap_banks=640,
    mig=(
        MigProfile("1g.5gb", 1, 1, 14, 4864),
        MigProfile("2g.10gb", 2, 2, 28, 9984),
        MigProfile("3g.20gb", 3, 4, 42, 19968),
        MigProfile("4g.20gb", 4, 4, 56, 19968),
        MigProfile("7g.40gb", 7, 8, 98, 40192),
    ),
)

H100: Final = Board(
    model="NVIDIA H100 80GB HBM3",
    architecture="Hopper",
    vbios_version="96.00.A5.00.01",
    sm_count=132,
    memory_mib=81559,
    reserved_mib=479,
    power_limit_watts=700.0,
    power_idle_watts=74.0,
    power_gain=1.1,
    clock_max_mhz={"graphics": 1980, "sm": 1980, "memory": 2619, "video": 1545},
    clock_idle_mhz={"graphics": 345, "sm": 345, "memory": 2619, "video": 765},
    idle_performance_state=0,
    temperature_idle_celsius=34.0,
    temperature_threshold_celsius={
        "shutdown": 92,
        "slowdown": 89,
        "gpu_max": 87,
        "memory_max": 95,
    },
    pcie_generation=5,
    engines=("encoder", "decoder", "jpeg", "ofa"),
    nvlinks=18,
    nvlink_bytes_per_second=450e9,
    remap_banks=2560,
    gpm=True,
    mig=(
        MigProfile("1g.10gb", 1, 1, 16, 9984),
        MigProfile("2g.20gb", 2, 2, 32, 19968),
        MigProfile("3g.40gb", 3, 4, 60, 40448),
        MigProfile("4g.40gb", 4, 4, 64, 40448),
        MigProfile("7g.80gb", 7, 8, 132, 80896),
    ),
)

H200: Final = Board(
    model="NVIDIA H200",
    architecture="Hopper",
    vbios_version="96.00.A5.00.03",
    sm_count=132,
    memory_mib=143771,
    reserved_mib=623,
    power_limit_watts=700.0,
    power_idle_watts=78.0,
    power_gain=1.1,
    clock_max_mhz={"graphics": 1980, "sm": 1980, "memory": 3201, "video": 1545},
    clock_idle_mhz={"graphics": 345, "sm": 345, "memory": 3201, "video": 765},
    idle_performance_state=0,
    temperature_idle_celsius=33.0,
    temperature_threshold_celsius={
        "shutdown": 92,
        "slowdown": 89,
        "gpu_max": 87,
        "memory_max": 95,
    },
    pcie_generation=5,
    engines=("encoder", "decoder", "jpeg", "ofa"),
    nvlinks=18,
    nvlink_bytes_per_second=450e9,
    remap_banks=3072,
    gpm=True,
    mig=(
        MigProfile("1g.18gb", 1, 1, 16, 16384),
        MigProfile("2g.35gb", 2, 2, 32, 33280),
        MigProfile("3g.71gb", 3, 4, 60, 71424),
        MigProfile("4g.71gb", 4, 4, 64, 71424),
        MigProfile("7g.141gb", 7, 8, 132, 143104),
    ),
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile("t4", T4, "535.183.01", "12.2"),
            Profile(
                "a100-mig",
                A100,
                "570.124.06",
                "12.8",
                layouts={
                    4: ("1g",) * 7,
                    5: ("3g", "2g", "1g", "1g"),
                    6: ("1c.3g", "1c.3g", "1c.3g", "4g"),
                    7: ("7g",),
                },
            ),
            Profile("h100", H100, "580.159.04", "13.0"),
            Profile(
                "h200-mixed",
                H200,
                "590.48.01",
                "13.1",
                layouts={5: ("1g",) * 7, 6: ("3g", "2g", "1g", "1g"), 7: ("3g", "3g")},
            ),
        )
    }
)
