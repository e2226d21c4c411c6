"""The alert on DCGM-exporter's names, on Prometheus' own engine."""

from pathlib import Path

import pytest

from rules.settings import defaults
from tests.rules.promtool import Case, Firing, Watched, check


def low(value: int) -> Firing:
    return Firing(
        f"GPU 0 on n1 has a utilization of {value} %, below 50 %.",
        {
            "Hostname": "n1",
            "gpu": "0",
            "UUID": "GPU-a",
            "namespace": "lab",
            "pod": "nb-0",
            "container": "main",
        },
    )


def utilization(host_label: str) -> str:
    return (
        f'DCGM_FI_DEV_GPU_UTIL{{gpu="0",UUID="GPU-a",{host_label}="n1",modelName="H100",'
        'namespace="lab",pod="nb-0",container="main",job="dcgm"}'
    )


WATCHED = (
    Watched(
        "GPUUnderutilized",
        "warning",
        "owner",
        (
            Case(
                "as DCGM-exporter up to 4.8.2 calls the host",
                {utilization("Hostname"): "90x9 12x50"},
                {"39m": (), "40m": (low(12),)},
            ),
            Case(
                "and as it does after",
                {utilization("hostname"): "90x9 12x50"},
                {"39m": (), "40m": (low(12),)},
            ),
            Case("half used", {utilization("Hostname"): "50x60"}, {"60m": ()}),
            Case("at work now and then", {utilization("Hostname"): "0x25 90 0x25 90"}, {"50m": ()}),
            Case("gone", {utilization("Hostname"): "12x20 stale"}, {"40m": ()}),
        ),
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)


def test_off_by_default() -> None:
    assert defaults().values["groups.dcgm.enabled"] is False
