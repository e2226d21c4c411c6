"""The simulated node's shared GPUs, from readings to what is booked: nothing is lost."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import pytest

from exporter.attribution.resolve import resolve
from exporter.gpus import GpuError
from exporter.model.claims import Container
from exporter.model.clocks import Monotonic, UnixSeconds
from exporter.model.snapshot import SourceHealth
from exporter.model.steps import Readings
from exporter.sampling.ledger import Ledger
from exporter.sampling.shared import Attribution, SharedGpus
from exporter.sampling.tracker import GpuTracker
from tests.doubles.scripted import at
from tests.doubles.simulation import World


class Story:
    """A sampler's work on a simulated node, without its threads; a source of the node's pids."""

    def __init__(self, scenario: str, profile: str) -> None:
        self.world = World(scenario, profile)
        self.ledger = Ledger(ended_grace=1e9)
        self.shared = SharedGpus(self)
        self.trackers = [GpuTracker(reader.gpu, 60.0) for reader in self.world.readers]
        self.busy: dict[str, float] = defaultdict(float)
        self.joules: dict[str, float] = defaultdict(float)

    def attribute(self, pids: Iterable[int], holders: Collection[Container]) -> Attribution:
        states = [s for s in self.world.backend.containers() if s.container in holders]
        return Attribution(
            {pid: state.container for state in states for pid in state.pids}, holders
        )

    def health(self) -> SourceHealth:
        return SourceHealth("processes", up=True)

    def step(self, now: float) -> None:
        self.world.at(now)
        for number in range(len(self.trackers)):
            try:
                self._read(number, now)
            except GpuError:
                self.ledger.away(self.trackers[number].gpu.uuid)
        gpus = [tracker.gpu for tracker in self.trackers]
        allocations = resolve(self.world.backend.claims(), gpus).allocations
        self.ledger.set_allocations(allocations, Monotonic(now))
        self.shared.set_allocations(allocations)

    def _read(self, number: int, now: float) -> None:
        reader, tracker = self.world.readers[number], self.trackers[number]
        uuid = tracker.gpu.uuid
        full = reader.read_full(processes=self.shared.splits(uuid))
        readings = Readings(reader.read_fast(), full, reader.read_slow())
        steps = tracker.take(readings, at(now), UnixSeconds(now))
        self.ledger.busy(uuid, steps.busy, at(now), self.shared.busy_shares(full))
        self.ledger.energy(steps.energy, at(now))
        for step in steps.busy:
            self.busy[step.device_uuid] += step.busy.seconds
        for each in steps.energy:
            self.joules[each.device_uuid] += each.joules
        used = self.shared.memory_by_device(tracker.gpu, readings.fast)
        for device, memory in tracker.view.memory_by_device():
            self.ledger.memory(device, memory, used.get(device))


@pytest.mark.parametrize("profile", ["h100", "a100-mig"])
def test_containers_and_the_rest_sum_to_each_device(profile: str) -> None:
    story = Story("default", profile)
    split = 0
    for now in range(5, 300, 5):
        story.step(float(now))
        samples = story.ledger.samples(at(float(now)))
        for uuid, rest in story.ledger.unattributed().items():
            on_device = [s for s in samples if s.allocation.measured_uuid == uuid]
            split += sum(not s.allocation.sole and s.busy_seconds is not None for s in on_device)
            if rest.busy_seconds is not None:
                busy = sum(s.busy_seconds or 0.0 for s in on_device)
                assert busy + rest.busy_seconds == pytest.approx(story.busy[uuid], abs=1e-6)
            if rest.energy_joules is not None:
                metered = [s for s in samples if s.allocation.device_uuid == uuid]
                joules = sum(s.energy_joules or 0.0 for s in metered)
                assert joules + rest.energy_joules == pytest.approx(story.joules[uuid], abs=1e-6)
    assert split > 100
