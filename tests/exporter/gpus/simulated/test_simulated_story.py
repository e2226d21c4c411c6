"""The default scenario shows everything that the alerts and dashboards are about."""

from collections import Counter
from itertools import pairwise

import pytest

from exporter.config import Config
from exporter.gpus.simulated import PROFILES
from exporter.model.readings import FullReading, SlowReading, XidEvent
from exporter.model.xids import action
from tests.doubles.simulation import World

STEP = 2
"""Seconds from one look to the next."""


class Story:
    """What a reader of the default scenario sees in its ten minutes."""

    def __init__(self, profile: str) -> None:
        self.world = World("default", profile)
        self.pods: dict[int, set[str]] = {}
        self.states: Counter[str] = Counter()
        self.actions: set[str] = set()
        self.full: dict[int, list[FullReading]] = {}
        self.slow: dict[int, list[SlowReading]] = {}
        self.memory: dict[int, list[float]] = {}
        self.layouts: list[tuple[str, ...]] = []
        """Of GPU 5, one after the other."""
        self.held: set[tuple[str, str]] = set()
        """Who has held what: pod and device id."""
        for second in range(STEP, 600, STEP):
            self._look(second)

    def _look(self, second: int) -> None:
        backend = self.world.at(second).backend
        held = backend.claims().held
        self.pods[second] = {claim.container.pod for claim in held}
        self.held |= {(claim.container.pod, claim.device_id) for claim in held}
        self.states["kubelet down"] += backend.kubelet_down
        if self.world.driver_is_down:
            self.states["driver unloaded"] += 1
            return
        for event in self.world.events():
            if isinstance(event, XidEvent):
                self.actions.add(action(event.xid))
        for index, meter in enumerate(backend._meters):
            active = meter.segment(second).active
            if active & {"gpu_hung", "gpu_lost"}:
                self.states.update(active)
                continue
            fast, full, slow = self.world.read(index)
            assert fast.memory
            self.memory.setdefault(index, []).append(
                fast.memory.used_bytes / fast.memory.total_bytes
            )
            self.full.setdefault(index, []).append(full)
            self.slow.setdefault(index, []).append(slow)
            layout = tuple(part.profile for part in full.gpu.slices)
            if index == 5 and self.layouts[-1:] != [layout]:
                self.layouts.append(layout)


@pytest.fixture(scope="module", params=PROFILES)
def story(request: pytest.FixtureRequest) -> Story:
    return Story(request.param)


def test_training_dips_for_its_checkpoints(story: Story) -> None:
    ratios = [[s.ratio for s in full.utilization or ()] for full in story.full[1]]
    means = [sum(r) / len(r) for r in ratios if r]
    dips = sum(1 for a, b in pairwise(means) if a > 0.9 and b < 0.3)
    assert dips >= 8
    assert sum(mean > 0.9 for mean in means) > 0.8 * len(means)


def test_a_leak_runs_out_of_memory_again_and_again(story: Story) -> None:
    used = story.memory[2]
    assert sum(1 for a, b in pairwise(used) if a > 0.95 and b < 0.2) >= 5


def test_a_notebook_holds_memory_and_does_nothing(story: Story) -> None:
    idle = story.full[2][30:70]
    assert all(s.ratio == 0 for full in idle for s in full.utilization or ())
    assert min(story.memory[2][30:70]) > 0.25


def test_there_is_an_xid_for_each_thing_to_do(story: Story) -> None:
    assert story.actions == {
        *("restart_app", "ignore", "reset_gpu", "restart_node", "check_ecc", "check_nvlink"),
        *("follow_up", "check_hardware", "update_driver", "check_uvm", "contact_support"),
        *("recovery_action", "unknown"),
    }


def test_pods_come_and_go(story: Story) -> None:
    every = set().union(*story.pods.values())
    always = set.intersection(*story.pods.values())
    assert {"llm-train-0", "embed-0", "score-0"} <= always
    assert {"notebook-ana", "leaky-finetune", "chat-v1-0", "chat-v3-0"} <= every - always


def test_everything_breaks_and_is_well_again(story: Story) -> None:
    assert all(story.states[what] > 3 for what in ("gpu_lost", "gpu_hung"))
    assert story.states["driver unloaded"] > 3
    for event in ("sw_thermal_slowdown", "hw_thermal_slowdown"):
        assert any(full.clock_event_active[event] for full in story.full[0])
        assert not story.full[0][-1].clock_event_active[event]
    assert any(full.clock_event_active["hw_power_brake_slowdown"] for full in story.full[1])
    assert any(slow.pcie_link_width == 4 for slow in story.slow[1])
    assert story.slow[6][-1].ecc_errors["corrected", "dram"] == 12
    assert story.slow[6][-1].ecc_errors["uncorrected", "dram"] == 1
    repairs = [slow.row_remap_pending or slow.retired_pages_pending for slow in story.slow[6]]
    assert any(repairs)
    assert not repairs[-1]


def test_the_kubelet_is_away_for_longer_than_its_claims_are_believed(story: Story) -> None:
    assert STEP * story.states["kubelet down"] > Config().claims_grace + 15


def test_the_kubelet_is_back_before_the_driver_goes(story: Story) -> None:
    node = story.world.backend.node
    back = max(s for s in range(600) if node.active("kubelet_down", s))
    assert not any(node.active("driver_unloaded", back + after) for after in range(12))


def test_mig_is_cut_anew_where_there_is_mig(story: Story) -> None:
    if not story.world.backend.profile.board.mig:
        assert story.layouts == [()]
        return
    before, other, after = story.layouts
    assert before == after
    assert [profile.partition(".")[0] for profile in other] == ["2g", "2g", "2g", "1g"]
    # Pods hold the slices.
    on_slices = {pod for pod, device_id in story.held if device_id.startswith("MIG-")}
    assert {f"chat-v2-{n}" for n in range(4)} <= on_slices
