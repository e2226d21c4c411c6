"""The gate at the border: every object of readings is made here, by the table of bounds."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from exporter.gpus.nvml.asking import Asker
from exporter.gpus.nvml.bounds import TABLE, Board, Bound, Counter, Each, Implausible, Where
from exporter.model.readings import FastReading, FullReading, Reason, SlowReading

R = TypeVar("R", FastReading, FullReading, SlowReading)
K = TypeVar("K")

_STEP_FACTOR = 2.0
# A counter is as old as its last update, which we do not see: so much more may have been added.
_STEP_SLACK_SECONDS = 1.0


class Trail:
    """Where one raw counter was. It follows no step that no hardware can make.

    A counter that leaps is not believed at first. If its next value goes on from there, the counter
    really is elsewhere: then it is followed again, and the leap itself is left out.
    """

    __slots__ = ("_at", "_left_out", "_suspect", "_suspect_at", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._at = 0.0
        self._suspect: float | None = None
        self._suspect_at = 0.0
        self._left_out = 0.0

    def follow(self, value: float, rate: float, now: float) -> float:
        """Return the value less the leaps before it.

        ``rate`` is the most that is added in a second. Raise ``ValueError`` for a leap.
        """
        if self._value is None:
            self._value, self._at = value, now
            return value
        if not _reaches(self._value, value, rate, now - self._at):
            suspect, since = self._suspect, now - self._suspect_at
            self._suspect, self._suspect_at = value, now
            if suspect is None or not _reaches(suspect, value, rate, since):
                raise ValueError(value)
            self._left_out += suspect - self._value
        elif value < self._value / 2:
            self._left_out = 0.0  # it has started again
        elif value < self._value:
            return value - self._left_out  # a late value, which adds nothing
        self._value, self._at, self._suspect = value, now, None
        return value - self._left_out


def _reaches(start: float, end: float, rate: float, seconds: float) -> bool:
    """Return whether a counter can get from ``start`` to ``end``, be it by starting again at 0."""
    added = end - start if end >= start else end if end < start / 2 else 0.0
    return added <= rate * _STEP_FACTOR * (seconds + _STEP_SLACK_SECONDS)


Trails = dict[tuple[object, ...], Trail]
"""By kind of object, field and part of a mapping."""


class Gate:
    """Makes one GPU's objects from raw values.

    ``asker`` takes note of what is implausible, by field. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, asker: Asker, clock: Callable[[], float]) -> None:
        self.asker = asker
        self.board = Board()
        """To be set from what has passed."""
        self.trails: Trails = {}
        """Where the counters were. To be set: they outlive a session with the driver."""
        self._clock = clock

    def reading(self, kind: type[R], **raw: Any) -> R:
        """Make a reading, with all failures since the last one. What is implausible is absent."""
        values = self._values(kind, raw, None)
        return kind(**values, failures=self.asker.failures())

    def piece(self, field: str, kind: type[K], **raw: Any) -> K | None:
        """Make an object within ``field``; ``None`` if something it needs is implausible."""
        try:
            return kind(**self._values(kind, raw, field))
        except Implausible:
            self.asker.failed(field, Reason.IMPLAUSIBLE)
            return None

    def pieces(self, field: str, kind: type[K], raws: Iterable[Mapping[str, Any]]) -> tuple[K, ...]:
        """Make objects. Those that are implausible are noted, and left out."""
        made = (self.piece(field, kind, **raw) for raw in raws)
        return tuple(one for one in made if one is not None)

    def _values(self, kind: type, raw: Mapping[str, Any], within: str | None) -> dict[str, Any]:
        """Convert what is not absent. Raise :class:`Implausible` for what has no default."""
        where = Where(self.board, raw)
        values = {}
        for name, value in raw.items():
            bound = TABLE[kind][name]
            if value is None:
                continue
            if isinstance(bound, Each):
                values[name] = self._each(bound.bound, value, where, (kind, name, within))
                continue
            try:
                values[name] = self._admit(bound, value, where, (kind, name))
            except ValueError as error:
                if _is_needed(kind, name):
                    raise Implausible(f"{within}: {name}", value) from error
                self.asker.failed(within or name, Reason.IMPLAUSIBLE)
        return values

    def _each(
        self, bound: Bound, raw: Mapping[Any, Any], where: Where, key: tuple[Any, ...]
    ) -> dict[Any, Any]:
        _, name, within = key
        values = {}
        for part, value in raw.items():
            if value is None:
                continue
            at = Where(where.board, where.beside, part)
            try:
                values[part] = self._admit(bound, value, at, (*key, part))
            except ValueError:
                self.asker.failed(within or name, Reason.IMPLAUSIBLE)
        return values

    def _admit(self, bound: Bound, raw: Any, where: Where, key: tuple[object, ...]) -> Any:
        value = bound.admit(raw, where)
        rate = bound.rate(where) if isinstance(bound, Counter) else None
        if not isinstance(bound, Counter) or rate is None:
            return value
        value = self.trails.setdefault(key, Trail()).follow(value, rate, self._clock())
        return int(value) if bound.whole else value


def _is_needed(kind: Any, name: str) -> bool:
    field = kind.__dataclass_fields__[name]
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
