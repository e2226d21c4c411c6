"""What a dashboard asks of Prometheus, with the values of its variables put in as Grafana does."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]

_ROUNDED = (
    *((15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000)),
    *((3500, 2000), (7500, 5000), (12500, 10000), (17500, 15000), (25000, 20000), (45000, 30000)),
    *((90000, 60000), (210000, 120000), (450000, 300000), (750000, 600000), (1050000, 900000)),
    *((1500000, 1200000), (2700000, 1800000), (5400000, 3600000), (9000000, 7200000)),
)
"""Below which length an interval is rounded to which, in milliseconds: rangeutil.roundInterval."""


class Ask(Protocol):
    """Prometheus' HTTP API: returns the JSON that a path answers."""

    def __call__(self, path: str, **parameters: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Series:
    """What became of one series in the time shown: seconds, and values at them."""

    name: str
    labels: Mapping[str, str]
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at a dashboard: the time shown, in seconds, and what is chosen of its variables."""

    start: float
    end: float
    scrape_seconds: float
    """The data source's scrape interval, which no step is shorter than."""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By variable; all, where none is said."""

    def interval_ms(self, points: int) -> int:
        """Return the step that cuts the time shown into so many points."""
        length = 1000 * (self.end - self.start) / points
        rounded = next((size for limit, size in _ROUNDED if length < limit), 10800000)
        return max(rounded, round(1000 * self.scrape_seconds))

    def builtin(self, points: int) -> dict[str, str]:
        """Return Grafana's own variables for a panel of so many points."""
        step, scrape = self.interval_ms(points), round(1000 * self.scrape_seconds)
        seconds = round(self.end - self.start)
        return {
            "__interval": _duration(step),
            "__interval_ms": str(step),
            "__rate_interval": _duration(max(step + scrape, 4 * scrape)),
            "__range": f"{seconds}s",
            "__range_s": str(seconds),
            "__range_ms": str(1000 * seconds),
        }


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of ``$name`` and ``${name}``. Raises ``KeyError`` for others."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda found: values[found[1] or found[2]], text)


def regex(chosen: Sequence[str]) -> str:
    """Write chosen values as Grafana does within a matcher's quotes."""
    escaped = [re.sub(r"([\\^$*+?.()|{}\[\]/])", r"\\\\\1", value) for value in chosen]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


class Source:
    """The answers of a Prometheus to a reader of one dashboard."""

    def __init__(self, ask: Ask, reader: Reader, dashboard: Json) -> None:
        self._ask = ask
        self.reader = reader
        self._values: dict[str, str] = {}
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                self._values[variable["name"]] = self._value(variable)

    def series(self, target: Json, points: int) -> list[Series]:
        """Return the answer to a panel's query, over time or at the end of it."""
        query = interpolated(target["expr"], self._values | self.reader.builtin(points))
        end = self.reader.end
        if target.get("instant"):
            answer = self._ask("/api/v1/query", query=query, time=f"{end:.3f}")
        else:
            step = self.reader.interval_ms(points) / 1000
            first = self.reader.start // step * step
            times = {"start": f"{first:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
            answer = self._ask("/api/v1/query_range", query=query, **times)
        return [_series(target, query, found) for found in answer["data"]["result"]]

    def _value(self, variable: Json) -> str:
        """Return what stands for a variable in a query."""
        if chosen := self.reader.choices.get(variable["name"]):
            return regex(chosen)
        if (everything := variable.get("allValue")) is not None:
            return str(everything)
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        if not found:
            raise ValueError(f"no label_values: {variable['query']['query']}")
        answer = self._ask(
            f"/api/v1/label/{found[2]}/values",
            **{"match[]": interpolated(found[1], self._values)},
            start=f"{self.reader.start:.3f}",
            end=f"{self.reader.end:.3f}",
        )
        return regex(answer["data"])


def _series(target: Json, query: str, found: Json) -> Series:
    labels = found["metric"]
    samples = found["values"] if "values" in found else [found["value"]]
    legend = target.get("legendFormat", "__auto")
    if legend == "__auto":
        pairs = ", ".join(f'{key}="{value}"' for key, value in labels.items())
        name = f"{{{pairs}}}" if labels else query
    else:
        name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda label: labels.get(label[1], ""), legend)
    return Series(name, labels, [at for at, _ in samples], [float(value) for _, value in samples])


def _duration(milliseconds: int) -> str:
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"
