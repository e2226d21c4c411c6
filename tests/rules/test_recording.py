"""Recording rules, on Prometheus' own engine."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from rules import render
from rules.recording import RECORDINGS
from rules.settings import Settings, defaults
from tests.rules.promtool import group_names

Expected = Mapping[str, Mapping[str, float]]
"""Labels and value of each sample that a query must give, by query."""


def held(pod: str, gpu: int, uuid: str = "", node: str = "n1") -> str:
    at = f"GPU-{gpu}"
    return (
        f'node="{node}",namespace="lab",pod="{pod}",container="main",gpu="{gpu}",'
        f'uuid="{uuid or at}"'
    )


def info(
    at: str, gpu: int, sharing: str = "exclusive", profile: str = "", workload: str = "train"
) -> str:
    kind = 'workload_kind="Job",' if workload else ""
    return (
        f'gpu_allocation_info{{{at},gpu_uuid="GPU-{gpu}",resource="nvidia.com/gpu",'
        f'sharing="{sharing}",profile="{profile}",{kind}workload="{workload}"}}'
    )


def use(at: str, allocated: float, busy: float | None, samples: str = "60") -> dict[str, str]:
    """Hold so much of a device, and keep so much of it busy."""
    series = {
        f"gpu_container_allocated_seconds_total{{{at}}}": f"0+{60 * allocated}x{samples}",
        f"gpu_container_energy_joules_total{{{at}}}": f"0+{60 * 100}x{samples}",
    }
    if busy is not None:
        series[f"gpu_container_busy_seconds_total{{{at}}}"] = f"0+{60 * busy}x{samples}"
    return series


POD = 'node="n1",namespace="lab",pod="train-0"'
TWO_GPUS = {
    info(held("train-0", 0), 0): "1x60",
    info(held("train-0", 1), 1): "1x60",
    **use(held("train-0", 0), 1, 0.9),
    **use(held("train-0", 1), 1, 0.1),
}
SHARED = {
    info(held("a", 0), 0, "time_sliced"): "1x60",
    info(held("b", 0), 0, "time_sliced", workload="other"): "1x60",
    **use(held("a", 0), 0.25, 0.75),
    **use(held("b", 0), 0.25, 0.05),
}
SLICES = {
    info(held("a", 0, "MIG-a"), 0, "mig", "3g.40gb"): "1x60",
    info(held("b", 0, "MIG-b"), 0, "mig", "1c.3g.40gb"): "1x60",
    **use(held("a", 0, "MIG-a"), 1, 0.5),
    **use(held("b", 0, "MIG-b"), 1, None),
    'gpu_memory_total_bytes{node="n1",gpu="0",uuid="GPU-0"}': "80e9x60",
    **{
        f'gpu_mig_info{{node="n1",gpu="0",gpu_uuid="GPU-0",uuid="{uuid}",gpu_instance="{at}"}}': (
            "1x60"
        )
        for uuid, at in (("MIG-a", 1), ("MIG-b", 2), ("MIG-c", 2))
    },
    **{
        f'gpu_mig_memory_total_bytes{{node="n1",gpu="0",gpu_uuid="GPU-0",uuid="{uuid}",'
        f'gpu_instance="{at}"}}': "40e9x60"
        for uuid, at in (("MIG-a", 1), ("MIG-b", 2))
    },
}
H200 = 'gpu_info{node="n1",gpu="0",uuid="GPU-0",model="NVIDIA H200"}'
T4 = 'gpu_info{node="n2",gpu="0",uuid="GPU-9",model="Tesla T4"}'

CASES: Mapping[str, tuple[Mapping[str, str], str, Expected]] = {
    "a pod on two GPUs is the mean of both": (
        TWO_GPUS,
        "30m",
        {
            "pod:gpu_busy:ratio_rate5m": {f'{{{POD},workload_kind="Job",workload="train"}}': 0.5},
            "namespace:gpu_allocated:gpus": {'{namespace="lab"}': 2},
            "namespace:gpu_idle:gpus": {'{namespace="lab"}': 1},
            "namespace:gpu_power:watts": {'{namespace="lab"}': 200},
        },
    ),
    "shares sum to their part of the GPU, and idle is not negative": (
        SHARED,
        "30m",
        {
            "namespace:gpu_allocated:gpus": {'{namespace="lab"}': 0.5},
            "namespace:gpu_busy:gpus": {'{namespace="lab"}': 0.8},
            "namespace:gpu_idle:gpus": {'{namespace="lab"}': 0.2},
            "namespace:gpu_busy:ratio_rate5m": {'{namespace="lab"}': 0.8},
            "workload:gpu_busy:ratio_rate5m": {
                '{namespace="lab",workload_kind="Job",workload="train"}': 1,
                '{namespace="lab",workload_kind="Job",workload="other"}': 0.2,
            },
        },
    ),
    "slices count by memory, compute instances by their part of that": (
        SLICES,
        "30m",
        {
            "slice:gpu_fraction:ratio": {
                '{node="n1",uuid="MIG-a"}': 0.5,
                '{node="n1",uuid="MIG-b"}': 0.25,
                '{node="n1",uuid="MIG-c"}': 0.25,
            },
            "namespace:gpu_allocated:gpus": {'{namespace="lab"}': 0.75},
            # Of MIG-b nobody knows whether it is busy: it is in neither.
            "namespace:gpu_busy:ratio_rate5m": {'{namespace="lab"}': 0.5},
            "namespace:gpu_busy:gpus": {'{namespace="lab"}': 0.25},
        },
    ),
    "a pod that follows another on a GPU is not counted twice": (
        {
            info(held("a", 0), 0): "1x20 stale",
            info(held("b", 0), 0): "_x21 1x40",
            **use(held("a", 0), 1, 1, "20 stale"),
            "gpu_container_allocated_seconds_total{" + held("b", 0) + "}": "_x21 0+60x40",
        },
        "23m",
        {"namespace:gpu_allocated:gpus <= bool 1": {'{namespace="lab"}': 1}},
    ),
    "an hour holds what has ended meanwhile": (
        {
            info(held("a", 0), 0): "1x29 stale",
            info(held("b", 1), 1): "1x60",
            **use(held("a", 0), 1, 0, "29 stale"),
            **use(held("b", 1), 1, 1),
        },
        "58m",
        {
            "namespace:gpu_busy:ratio_rate5m": {'{namespace="lab"}': 1},
            "round(namespace:gpu_busy:ratio_rate1h, 0.1)": {'{namespace="lab"}': 0.7},
            "pod:gpu_busy:ratio_rate1h": {
                '{node="n1",namespace="lab",pod="b",workload_kind="Job",workload="train"}': 1
            },
        },
    ),
    "a pod whose workload is known late is one": (
        {
            info(held("a", 0), 0, workload=""): "1x28 stale",
            info(held("a", 0), 0): "_x29 1x30",
            **use(held("a", 0), 1, 1),
        },
        "30m",
        {
            "allocation:gpu_allocation:last5m": {
                '{node="n1",namespace="lab",pod="a",container="main",gpu="0",uuid="GPU-0",'
                'gpu_uuid="GPU-0",resource="nvidia.com/gpu",sharing="exclusive",'
                'workload_kind="Job",workload="train"}': 1
            },
            "namespace:gpu_allocated:gpus": {'{namespace="lab"}': 1},
        },
    ),
    "our restart takes nothing away": (
        {
            info(held("a", 0), 0): "1x60",
            "gpu_container_allocated_seconds_total{" + held("a", 0) + "}": "6000+60x20 0+60x40",
        },
        "24m",
        {"namespace:gpu_allocated:gpus > bool 0.75": {'{namespace="lab"}': 1}},
    ),
    "a day's hours are those that were held": (
        {
            info(held("a", 0), 0): "1x120 stale",
            **use(held("a", 0), 1, 0.5, "120 stale"),
            H200: "1x240",
        },
        "200m",
        {
            "round(namespace:gpu_allocated:hours1d, 0.1)": {'{namespace="lab"}': 2},
            "round(namespace:gpu_busy:hours1d, 0.1)": {'{namespace="lab"}': 1},
            "round(workload:gpu_idle:hours1d, 0.1)": {
                '{namespace="lab",workload_kind="Job",workload="train"}': 1
            },
            "round(namespace:gpu_cost:sum1d, 0.1)": {'{namespace="lab"}': 7},
            "round(namespace:gpu_energy:joules1d / 3600 / 100, 0.1)": {'{namespace="lab"}': 2},
        },
    ),
    "a price is the table's, but for OpenCost's, and else none": (
        {
            info(held("a", 0), 0): "1x60",
            **use(held("a", 0), 1, 0.25),
            info(held("b", 0, "GPU-9", "n2"), 9): "1x60",
            **use(held("b", 0, "GPU-9", "n2"), 1, 1),
            H200: "1x60",
            T4: "1x60",
        },
        "30m",
        {
            "gpu:gpu_hourly_cost:price": {
                '{node="n1",uuid="GPU-0",gpu="0",model="NVIDIA H200"}': 3.5
            },
            "namespace:gpu_cost:per_hour": {'{namespace="lab"}': 3.5},
            "namespace:gpu_idle_cost:per_hour": {'{namespace="lab"}': 2.625},
            "cluster:gpu_known_cost:per_hour": {"{}": 3.5},
        },
    ),
    "OpenCost's price counts first, unless it knows none": (
        {
            H200: "1x60",
            T4: "1x60",
            'node_gpu_hourly_cost{node="n1",instance="x"}': "2x60",
            'node_gpu_hourly_cost{node="n2",instance="x"}': "0x60",
        },
        "30m",
        {"gpu:gpu_hourly_cost:price": {'{node="n1",uuid="GPU-0",gpu="0",model="NVIDIA H200"}': 2}},
    ),
    "capacity by resource": (
        {
            **TWO_GPUS,
            'gpu_allocatable_devices{node="n1",resource="nvidia.com/gpu"}': "8x60",
            'gpu_allocated_devices{node="n1",resource="nvidia.com/gpu"}': "2x60",
            'gpu_allocatable_devices{node="n2",resource="nvidia.com/gpu"}': "8x60",
            'gpu_allocated_devices{node="n2",resource="nvidia.com/gpu"}': "0x60",
        },
        "30m",
        {
            "node:gpu_in_use:devices": {
                '{node="n1",resource="nvidia.com/gpu"}': 2,
                '{node="n2",resource="nvidia.com/gpu"}': 0,
            },
            "cluster:gpu_unallocated:devices": {'{resource="nvidia.com/gpu"}': 14},
        },
    ),
    "memory of what is held alone": (
        {
            info(held("a", 0), 0): "1x60",
            info(held("b", 1), 1, "time_sliced"): "1x60",
            f"gpu_container_memory_used_bytes{{{held('a', 0)}}}": "20x60",
            f"gpu_container_memory_limit_bytes{{{held('a', 0)}}}": "80x60",
            f"gpu_container_memory_used_bytes{{{held('b', 1)}}}": "40x60",
        },
        "30m",
        {
            "namespace:gpu_memory:ratio_avg5m": {'{namespace="lab"}': 0.25},
            "namespace:gpu_memory:ratio_avg1h": {'{namespace="lab"}': 0.25},
        },
    ),
    "boards, held or not": (
        {
            'gpu_busy_seconds_total{node="n1",gpu="0",uuid="GPU-0"}': "0+60x60",
            'gpu_busy_seconds_total{node="n1",gpu="1",uuid="GPU-1"}': "0x60",
            'gpu_busy_seconds_total{node="n2",gpu="0",uuid="GPU-9"}': "0x60",
            'gpu_busy_seconds_total{node="n2",gpu="1",uuid="GPU-8"}': "0x60",
        },
        "30m",
        {
            "node:gpu_busy:ratio_rate5m": {'{node="n1"}': 0.5, '{node="n2"}': 0},
            "cluster:gpu_busy:ratio_rate5m": {"{}": 0.25},
        },
    ),
    "nothing to tell is nothing told": (
        {"up": "1x30"},
        "20m",
        {
            "namespace:gpu_busy:ratio_rate5m": {},
            "cluster:gpu_busy:ratio_rate5m": {},
            "cluster:gpu_cost:per_hour": {},
            "cluster:gpu_allocated:hours1d": {},
        },
    ),
}


LEVELS: Mapping[str, str] = {
    "container": f'{{{POD},container="main",workload_kind="Job",workload="train"}}',
    "pod": f'{{{POD},workload_kind="Job",workload="train"}}',
    "workload": '{namespace="lab",workload_kind="Job",workload="train"}',
    "namespace": '{namespace="lab"}',
    "node": '{node="n1"}',
    "cluster": "{}",
}
BOARD = 'node="n1",gpu="0",uuid="GPU-0"'
HALF_BUSY = {
    info(held("train-0", 0), 0): "1x90",
    **use(held("train-0", 0), 1, 0.5, "90"),
    f"gpu_container_memory_used_bytes{{{held('train-0', 0)}}}": "20x90",
    f"gpu_container_memory_limit_bytes{{{held('train-0', 0)}}}": "80x90",
    f"gpu_busy_seconds_total{{{BOARD}}}": "0+30x90",
    f"gpu_memory_used_bytes{{{BOARD}}}": "20x90",
    f"gpu_memory_total_bytes{{{BOARD}}}": "80x90",
    f"gpu_energy_joules_total{{{BOARD}}}": "0+6000x90",
    f"gpu_exporter_gpu_state{{{BOARD}}}": "0x90",
    'gpu_allocatable_devices{node="n1",resource="nvidia.com/gpu"}': "1x90",
    'gpu_allocated_devices{node="n1",resource="nvidia.com/gpu"}': "1x90",
    H200: "1x90",
}
"""One pod on the one GPU of a node, for an hour, half of the time busy, at 100 W."""

ON_RATIO_LEVELS = {
    "gpu_busy:ratio_rate5m": 0.5,
    "gpu_busy:ratio_rate1h": 0.5,
    "gpu_memory:ratio_avg5m": 0.25,
    "gpu_memory:ratio_avg1h": 0.25,
}
ON_SUM_LEVELS = {
    "gpu_allocated:gpus": 1,
    "gpu_busy:gpus": 0.5,
    "gpu_idle:gpus": 0.5,
    "gpu_power:watts": 100,
    "gpu_cost:per_hour": 3.5,
    "gpu_idle_cost:per_hour": 1.75,
    "gpu_allocated:hours1d": 1,
    "gpu_busy:hours1d": 0.5,
    "gpu_idle:hours1d": 0.5,
    "gpu_cost:sum1d": 3.5,
    "gpu_idle_cost:sum1d": 1.75,
    "gpu_energy:joules1d": 360_000,
}


def test_every_level_tells_the_same(tmp_path: Path) -> None:
    expected: dict[str, dict[str, float]] = {}
    for level, labels in LEVELS.items():
        values = ON_RATIO_LEVELS | (ON_SUM_LEVELS if level not in {"container", "pod"} else {})
        for name, value in values.items():
            # A day lags by the few minutes over which its rates are means.
            query = f"round({level}:{name} / {value}, 0.1)"
            expected[query] = {labels: 1}
    for state, count in (("allocatable", 1), ("allocated", 1), ("in_use", 1), ("unallocated", 0)):
        expected[f"cluster:gpu_{state}:devices"] = {'{resource="nvidia.com/gpu"}': count}
    expected["cluster:gpu_known:gpus"] = {"{}": 1}
    _check(HALF_BUSY, "60m", expected, tmp_path)
    asked = {name for name in RECORDINGS if any(name in query for query in expected)}
    levels = {name for name in RECORDINGS if name.partition(":")[0] in LEVELS}
    assert levels - asked == {
        "node:gpu_allocatable:devices",
        "node:gpu_allocated:devices",
        "node:gpu_in_use:devices",
        "node:gpu_known:gpus",
        "node:gpu_unallocated:devices",
        "cluster:gpu_known_cost:per_hour",
        "workload:gpu_sm_clock:hertz_mad15m",
        "workload:gpu_sm_clock:hertz_median15m",
    }


@pytest.mark.parametrize("case", CASES)
def test_recording(case: str, tmp_path: Path) -> None:
    _check(*CASES[case], tmp_path)


def _check(series: Mapping[str, str], at: str, expected: Expected, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    values = {**defaults().values, "groups.reports.enabled": True}
    files = render.rule_files(Settings(values, {"NVIDIA H200": 3.5}))
    groups = [yaml.safe_load(files[name])["groups"] for name in ("recording.yaml", "reports.yaml")]
    rules.write_text(yaml.safe_dump({"groups": [*groups[0], *groups[1]]}))
    queries = [
        {
            "eval_time": at,
            "expr": f"round({query}, 0.001) + 0",
            "exp_samples": [
                {"labels": labels, "value": value} for labels, value in samples.items()
            ],
        }
        for query, samples in expected.items()
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": queries,
    }
    tests = tmp_path / "tests.yaml"
    tests.write_text(
        yaml.safe_dump(
            {
                "rule_files": [str(rules)],
                "group_eval_order": group_names(rules),
                "evaluation_interval": "1m",
                "tests": [test],
            }
        )
    )
    run = subprocess.run(
        ["promtool", "test", "rules", str(tests)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
