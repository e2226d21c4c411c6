"""Measured times, printed at the end of the run."""

from typing import Final

_MEASURED: Final[dict[str, dict[str, float]]] = {}


def report(what: str, **seconds: float) -> None:
    """Have a measurement printed, in seconds."""
    _MEASURED[what] = seconds


def lines() -> list[str]:
    return [
        f"{what}: " + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
        for what, seconds in _MEASURED.items()
    ]
