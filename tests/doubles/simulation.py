"""A simulated node whose clock is in the test's hands."""

from pathlib import Path

from exporter.gpus.simulated import SimulatedBackend
from exporter.model.clocks import UnixSeconds
from exporter.model.devices import Gpu
from exporter.model.readings import Event, FastReading, FullReading, SlowReading, XidEvent

WALL = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A simulated node with its clock in our hands."""

    def __init__(
        self, scenario: str | Path, profile: str = "h100", speed: float = 1, seed: int = 0
    ) -> None:
        self.clock = Clock()
        self.backend = SimulatedBackend(
            profile=profile,
            scenario=scenario,
            seed=seed,
            speed=speed,
            clock=self.clock,
            wall=lambda: UnixSeconds(WALL + self.clock.now),
        )
        self.driver = self.backend.open()
        self.readers = self.backend.readers()

    def at(self, seconds: float) -> "World":
        """Go to ``seconds`` after the start, in real time."""
        self.clock.now = 5000.0 + seconds
        return self

    def read(self, index: int) -> tuple[FastReading, FullReading, SlowReading]:
        reader = self.readers[index]
        return reader.read_fast(), reader.read_full(), reader.read_slow()

    def events(self) -> list[Event]:
        """Return what has happened since the last time, oldest first."""
        heard = [event for reader in self.readers for event in reader.wait_events(0)]
        return sorted(heard, key=lambda e: e.timestamp if isinstance(e, XidEvent) else 0.0)

    def gpus(self) -> list[Gpu]:
        return [reader.read_full().gpu for reader in self.readers]

    @property
    def driver_is_down(self) -> bool:
        return bool(self.backend.node.active("driver_unloaded", self.backend.scenario_seconds))


def write(folder: Path, scenario: str) -> Path:
    path = folder / "scenario.yaml"
    path.write_text(scenario)
    return path
