"""Values as Grafana writes them, by unit: scaled, and with three digits that mean something.

After grafana/grafana packages/grafana-data/src/valueFormats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

_SI = ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E")
_IEC = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_COUNTS = ("", " K", " Mil", " Bil", " Tri")
_RATES = ("", "K", "M", "B", "T")

_SECONDS = (
    (604800.0, " weeks"),
    (86400.0, " days"),
    (3600.0, " hours"),
    (60.0, " mins"),
    (1.0, " s"),
    (1e-3, " ms"),
    (1e-6, " µs"),
    (1e-9, " ns"),
)


@dataclass(frozen=True, slots=True)
class Scale:
    """What a value is divided by to be written, and what is written behind it."""

    divisor: float
    suffix: str


def _scaled(factor: int, suffixes: tuple[str, ...], base: int = 0) -> Callable[[float], Scale]:
    def scale(value: float) -> Scale:
        power = math.floor(math.log(abs(value), factor) + 1e-9) if value else 0
        power = max(-base, min(power, len(suffixes) - base - 1))
        return Scale(float(factor) ** power, suffixes[base + power])

    return scale


def _si(unit: str) -> Callable[[float], Scale]:
    return _scaled(1000, tuple(f" {prefix}{unit}" for prefix in _SI), _SI.index(""))


def _iec(unit: str) -> Callable[[float], Scale]:
    return _scaled(1024, tuple(f" {prefix}{unit}" for prefix in _IEC))


def _fixed(suffix: str, divisor: float = 1) -> Callable[[float], Scale]:
    return lambda _: Scale(divisor, suffix)


def _duration(value: float) -> Scale:
    known = next((known for known in _SECONDS if abs(value) >= known[0]), None)
    return Scale(*(known or _SECONDS[4 if value == 0 else -1]))


_SCALES: dict[str, Callable[[float], Scale]] = {
    "none": _fixed(""),
    "string": _fixed(""),
    "short": _scaled(1000, _COUNTS),
    "percentunit": _fixed("%", 0.01),
    "bytes": _iec("B"),
    "binBps": _iec("B/s"),
    "s": _duration,
    "watt": _si("W"),
    "watth": _si("Wh"),
    "joule": _si("J"),
    "hertz": _si("Hz"),
    "celsius": _fixed(" °C"),
    "cps": _scaled(1000, tuple(f"{rate} c/s" for rate in _RATES)),
}
BINARY = frozenset({"bytes", "binBps"})


def scale_of(unit: str, value: float) -> Scale:
    """Return the scale that a value of this unit is written in. Raises ``KeyError``."""
    return _SCALES[unit](value)


def number(value: float, decimals: int | None = None) -> str:
    """Write a number with ``decimals``, else with three digits that mean something."""
    if decimals is None:
        magnitude = math.floor(math.log10(abs(value))) if value else 0
        decimals = 0 if value == int(value) else max(0, 2 - magnitude)
    # Halves are rounded up, as JavaScript does.
    factor = 10**decimals
    return f"{math.floor(value * factor + 0.5) / factor:.{decimals}f}"


def written(value: float, unit: str, *, decimals: int | None = None, now: float = 0) -> str:
    """Write a value; ``now`` in seconds is the time from which "ago" counts."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "dateTimeFromNow":
        return ago(now - value / 1000)
    scale = scale_of(unit, value)
    return number(value / scale.divisor, decimals) + scale.suffix


def ago(seconds: float) -> str:
    """Write how long ago something was, as moment.js does."""
    steps = (
        (44.5, "a few seconds", 0),
        (89.5, "a minute", 0),
        (44.5 * 60, "{} minutes", 60),
        (89.5 * 60, "an hour", 0),
        (21.5 * 3600, "{} hours", 3600),
        (35.5 * 3600, "a day", 0),
    )
    for limit, text, unit in steps:
        if seconds < limit:
            return f"{text.format(round(seconds / unit) if unit else '')} ago"
    return f"{round(seconds / 86400)} days ago"


def ticks(low: float, high: float, unit: str, most: int = 5) -> tuple[list[float], list[str]]:
    """Return where an axis from ``low`` to ``high`` has marks, and what they say."""
    scale = scale_of(unit, max(abs(low), abs(high)))
    first, last = low / scale.divisor, high / scale.divisor
    step = _step((last - first) / most, binary=unit in BINARY)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if not math.isclose(step, round(step, decimals), rel_tol=1e-6):
        decimals += 1
    places = [
        index * step for index in range(math.ceil(first / step - 1e-9), int(last / step + 1e-9) + 1)
    ]
    # Zero is not scaled: "0 B" below "8 GiB".
    labels = [number(p, decimals) + scale.suffix if p else written(0, unit) for p in places]
    return [place * scale.divisor for place in places], labels


def _step(least: float, *, binary: bool) -> float:
    if binary and least >= 1:
        return float(2 ** math.ceil(math.log2(least)))
    magnitude = 10.0 ** math.floor(math.log10(least))
    return next(n * magnitude for n in (1, 2, 2.5, 5, 10) if n * magnitude >= least * (1 - 1e-9))
