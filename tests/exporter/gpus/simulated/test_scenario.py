"""Scenario files: what they mean, and what is said about each mistake in one."""

from pathlib import Path

import pytest

from exporter.document import DocumentError
from exporter.gpus.simulated import PROFILES, scenario_names
from exporter.gpus.simulated.node import Node
from exporter.gpus.simulated.scenario import FAULTS, load_scenario
from exporter.gpus.simulated.workloads import WorkloadKind


def node(path: Path, text: str, profile: str = "h200-mixed") -> Node:
    path.write_text(text)
    return Node(PROFILES[profile], load_scenario(path, PROFILES[profile]), seed=0)


def test_the_packaged_scenarios_are_found_by_name() -> None:
    assert {"busy-node", "default", "steady"} <= set(scenario_names())


MISTAKES = {
    "": "1: the file is empty",
    "[]": "1: expected a mapping of keys to values, got a list",
    "pods: [": (
        "1: not YAML: while parsing a flow node, expected the node content, but found"
        " '<stream end>'"
    ),
    "\npodz: []": "2: podz: no such key; did you mean pods?",
    "pods: []\npods: []": "2: pods: given twice, first at {path}:1",
    "pods: 3": "1: pods: expected a list, got '3'",
    "repeat: 0": "1: repeat: has to be more than 0",
    "pods:\n- 7": "2: pods: expected a mapping of keys to values, got '7'",
    "pods:\n- {pod: a, gpu: 0}": "2: 'workload' is missing",
    "pods:\n- {gpu: 0, workload: idle}": "2: 'pod' is missing",
    "pods:\n- {pod: a, workload: idle}": "2: 'gpu' is missing",
    "pods:\n- {pod: 5, gpu: 0, workload: idle}": "2: pod: expected a text, got '5'",
    "pods:\n- {pod: a, gpu: 8, workload: idle}": "2: there is no GPU 8, only 0 to 7",
    "pods:\n- {pod: a, gpu: [], spread: 2, workload: idle}": "2: gpu: the list is empty",
    "pods:\n- {pod: a, gpu: [0, -1], workload: idle}": (
        "2: gpu: expected a whole number, 0 or more, got '-1'"
    ),
    "pods:\n- {pod: a, gpu: 0, workload: mining}": (
        f"2: workload: expected one of {', '.join(WorkloadKind)}, got 'mining'"
    ),
    "pods:\n- pod: a\n  gpu: 0\n  workload:\n    kind: idle\n    sm: 1": (
        "6: sm: no such key; known here: kind, memory, utilization, period, backoff, silent"
    ),
    "pods:\n- {pod: a, gpu: 0, workload: {kind: idle, memory: 1.5}}": (
        "2: memory: expected a ratio from 0 to 1, a percentage, or a size such as 10Gi, got '1.5'"
    ),
    "pods:\n- {pod: a, gpu: 0, workload: {kind: idle, backoff: 5s}}": "2: only a leak is restarted",
    "pods:\n- {pod: a, gpu: 0, workload: {kind: host_leak, silent: true}}": (
        "2: only a leak would have something to say"
    ),
    "pods:\n- {pod: a, gpu: 0, workload: {kind: leak, period: 0}}": (
        "2: period: has to be more than 0"
    ),
    "pods:\n- {pod: a, gpu: 0, start: -5, workload: idle}": (
        "2: start: '-5' is not a duration (such as 5s)"
    ),
    "pods:\n- {pod: a, gpu: 0, start: soon, workload: idle}": (
        "2: start: 'soon' is not a duration (such as 5s)"
    ),
    "pods: cluster\nfaults:\n- {fault: kubelet_down, at: 1m}": (
        "3: a cluster's kubelet is real: no scenario has it down"
    ),
    "pods:\n- {pod: a, gpu: 0, start: 5m, end: 5m, workload: idle}": "2: ends before it starts",
    "pods:\n- {pod: a, gpu: 0, end: 5m, duration: 5m, workload: idle}": (
        "2: give 'end' or 'duration', not both"
    ),
    "repeat: 5m\npods:\n- {pod: a, gpu: 0, end: 6m, workload: idle}": (
        "3: goes on after the scenario repeats, at 5m"
    ),
    "pods:\n- {pod: a, gpu: 0, workload: idle}\n- {pod: b, gpu: 0, start: 1h, workload: idle}": (
        "3: GPU 0 is allocated to another pod then, for b"
    ),
    "pods:\n- {pod: a, gpu: 5, spread: 8, workload: idle}": (
        "2: GPU 5 slice 1g.18gb is allocated to another pod then, for a-7"
    ),
    "gpus:\n- {gpu: 0, sharing: mps, replicas: 2}\n"
    "pods:\n- {pod: a, gpu: 0, spread: 3, workload: idle}": ("4: GPU 0 has no share left, for a-2"),
    "pods:\n- {pod: a, gpu: 5, workload: idle}": "2: GPU 5 has MIG on: give 'slice' or 'spread'",
    "pods:\n- {pod: a, gpu: 5, slice: 7, workload: idle}": "2: GPU 5 has no slice 7, only 0 to 6",
    "pods:\n- {pod: a, gpu: 5, slice: 1, spread: 2, workload: idle}": (
        "2: give 'slice' or 'spread', not both"
    ),
    "pods:\n- {pod: a, gpu: 1, slice: 0, workload: idle}": (
        "2: GPU 1 has MIG off, so it has no slice 0"
    ),
    "pods:\n- {pod: a, gpu: 1, profiles: v100, workload: idle}": (
        f"2: profiles: expected one of {', '.join(PROFILES)}, got 'v100'"
    ),
    "gpus:\n- {gpu: 0, sharing: vgpu, replicas: 2}": (
        "2: sharing: expected one of time_sliced, mps, got 'vgpu'"
    ),
    "gpus:\n- {gpu: 0, sharing: mps}": "2: 'replicas' is missing",
    "gpus:\n- {gpu: 0, sharing: mps, replicas: 99999999}": (
        "2: replicas: expected a whole number, from 1 to 1000, got '99999999'"
    ),
    "gpus:\n- {gpu: 0, replicas: 2}": "2: 'replicas' and 'renamed' need 'sharing'",
    "gpus:\n- {gpu: 0, sharing: mps, replicas: 2, renamed: 1}": (
        "2: renamed: expected true or false, got '1'"
    ),
    "gpus:\n- {gpu: 0, slices: [1g]}\n- {gpu: 0, slices: [7g]}": "3: GPU 0 is set up twice",
    "gpus:\n- {gpu: 0, slices: [5g]}": (
        "2: NVIDIA H200 has no MIG profile '5g', only 1g.18gb, 2g.35gb, 3g.71gb, 4g.71gb, 7g.141gb"
    ),
    "gpus:\n- {gpu: 0, slices: [4g, 4g, 1g]}": ("2: 4g + 4g + 1g does not fit on one NVIDIA H200"),
    "gpus:\n- {gpu: 0, slices: [3g, 3g, 3g]}": "2: no room for another 3g.71gb",
    "faults:\n- {fault: fire, at: 0}": (
        f"2: fault: expected one of {', '.join(FAULTS)}, got 'fire'"
    ),
    "faults:\n- {fault: xid, gpu: 0, code: 31}": "2: 'at' is missing",
    "faults:\n- {fault: xid, gpu: 0, at: 1m}": "2: 'code' is missing",
    "faults:\n- {fault: xid, gpu: 0, at: 1m, code: 31, for: 5s}": (
        "2: for: no such key; known here: profiles, fault, at, gpu, code"
    ),
    "faults:\n- {fault: thermal, gpu: 9, at: 1m}": "2: there is no GPU 9, only 0 to 7",
    "faults:\n- {fault: thermal, gpu: 0, at: 1m, for: -1}": (
        "2: for: '-1' is not a duration (such as 5s)"
    ),
    "faults:\n- {fault: mig_reconfigure, gpu: 0, at: 1m, slices: [1g]}\n"
    "pods:\n- {pod: a, gpu: 0, workload: idle}": "4: GPU 0 is cut anew while a is on it",
    "faults:\n- {fault: mig_reconfigure, gpu: 0, at: 1m, slices: [1g]}\n"
    "- {fault: mig_reconfigure, gpu: 0, at: 2m, slices: [2g]}": (
        "3: GPU 0 is still in another reconfiguration"
    ),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_a_mistake_is_reported_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    with pytest.raises(DocumentError) as raised:
        node(path, text)
    assert str(raised.value) == f"{path}:{message.replace('{path}', str(path))}"


def test_a_mistake_is_found_also_where_the_entry_does_not_apply(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="there is no GPU 8"):
        node(tmp_path / "a.yaml", "pods: [{profiles: t4, pod: a, gpu: 8, workload: idle}]")


def test_a_board_without_mig_cannot_be_cut(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"a\.yaml:1: Tesla T4 can't do MIG"):
        node(tmp_path / "a.yaml", "gpus: [{gpu: 0, slices: [1g]}]", profile="t4")


def test_a_file_that_is_not_there_is_reported_with_the_names_that_are(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"No such file or directory.*default, steady"):
        load_scenario(tmp_path / "absent.yaml", PROFILES["t4"])


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="not UTF-8 text"):
        load_scenario(path, PROFILES["t4"])


@pytest.mark.parametrize(
    ("written", "seconds"), [("90", 90), ("1.5", 1.5), ("500ms", 0.5), ("1d", 86400)]
)
def test_times_are_read_in_seconds_and_units(written: str, seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"pods: [{{pod: a, gpu: 0, start: {written}, workload: idle}}]")
    assert load_scenario(path, PROFILES["t4"]).pods[0].start == seconds


def test_compute_instances_share_a_gpu_instance_until_it_is_full(tmp_path: Path) -> None:
    world = node(tmp_path / "a.yaml", "gpus: [{gpu: 0, slices: [1c.3g, 2c.3g, 1c.3g.71gb, 2c.3g]}]")
    slices = world.segment(0, 0).gpu.slices
    assert [(s.gpu_instance, s.compute_instance, s.profile, s.sm_count) for s in slices] == [
        (1, 0, "1c.3g.71gb", 20),
        (1, 1, "2c.3g.71gb", 40),
        (2, 0, "1c.3g.71gb", 20),
        (2, 1, "2c.3g.71gb", 40),
    ]
    assert len({s.uuid for s in slices}) == 4
