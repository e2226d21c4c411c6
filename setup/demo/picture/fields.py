"""How a field is shown: Grafana's field configuration, with the overrides for its name applied."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

from setup.demo.picture.frames import Cell
from setup.demo.picture.query import Json
from setup.demo.picture.units import written

_PALETTE = (
    *("#73BF69", "#FADE2A", "#5794F2", "#FF9830", "#F2495C", "#B877D9", "#37872D", "#E0B400"),
    *("#1F60C4", "#FA6400", "#C4162A", "#8F3BB8", "#C8F2C2", "#FFF899", "#C0D8FF", "#FFCB7D"),
    *("#FFA6B0", "#DEB6F2", "#447EBC", "#C15C17", "#B7DBAB", "#F4D598", "#70DBED", "#F9BA8F"),
    *("#F29191", "#82B5D8", "#E5A8E2", "#AEA2E0", "#629E51", "#E5AC0E", "#64B0C8", "#E0752D"),
)
"""The colours of palette-classic-by-name that are visible on a dark ground."""


@dataclass(frozen=True, slots=True)
class Field:
    """What is set for a field of this name; ``settings`` are by their paths, ``custom.width``."""

    name: str
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, panel: Json, name: str) -> "Field":
        config = panel["fieldConfig"]
        defaults = dict(config["defaults"])
        custom = {f"custom.{key}": value for key, value in defaults.pop("custom", {}).items()}
        settings = {**defaults, **custom}
        for override in config["overrides"]:
            if _matches(override["matcher"], name):
                settings |= {each["id"]: each["value"] for each in override["properties"]}
        return cls(name, settings)

    def get(self, path: str, otherwise: Any = None) -> Any:
        return self.settings.get(path, otherwise)

    @property
    def unit(self) -> str:
        return str(self.get("unit", "none"))

    @property
    def steps(self) -> Sequence[Json]:
        """Thresholds, rising; the first has no value."""
        return list(self.get("thresholds", {}).get("steps", ()))

    def text(self, value: Cell, now: float) -> str:
        """Return how a value is written; ``now`` in seconds is the time from which "ago" counts."""
        if value is None:
            return str(self.get("noValue", "-"))
        if isinstance(value, str):
            return value
        mapped = self._mapped(value)
        if mapped:
            return str(mapped["text"])
        return written(value, self.unit, decimals=self.get("decimals"), now=now)

    def share(self, value: float) -> float:
        """Return where a value lies between the least and the most, from 0 to 1."""
        low, high = self.get("min", 0), self.get("max", 1)
        return float(min(1, max(0, (value - low) / (high - low))))

    def colour(self, value: float) -> str:
        """Return a value's colour."""
        mapped = self._mapped(value)
        if mapped and "color" in mapped:
            return str(mapped["color"])
        colour = self.get("color", {"mode": "thresholds"})
        if colour["mode"] == "fixed":
            return str(colour["fixedColor"])
        if colour["mode"] == "palette-classic-by-name":
            return _PALETTE[_hash(self.name) % len(_PALETTE)]
        if colour["mode"] == "continuous-viridis":
            return to_hex(mpl.colormaps["viridis"](self.share(value)))
        if colour["mode"] == "thresholds":
            passed = [s["color"] for s in self.steps if s["value"] is None or value >= s["value"]]
            return str(passed[-1])
        raise ValueError(f"unknown colour mode: {colour['mode']}")

    def _mapped(self, value: float) -> Json | None:
        for mapping in self.get("mappings", ()):
            if mapping["type"] != "value":
                raise ValueError(f"unknown mapping: {mapping['type']}")
            if found := mapping["options"].get(f"{value:g}"):
                return dict(found)
        return None


def _matches(matcher: Json, name: str) -> bool:
    if matcher["id"] == "byName":
        return bool(matcher["options"] == name)
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"].strip("/"), name) is not None
    raise ValueError(f"unknown matcher: {matcher['id']}")


def _hash(text: str) -> int:
    """Return what npm's string-hash makes of a text."""
    found = 5381
    for character in reversed(text):
        found = (found * 33) ^ ord(character)
    return found & 0xFFFFFFFF
