"""Alerts on the driver's error codes, on Prometheus' own engine."""

from pathlib import Path

import pytest

from tests.rules.promtool import Case, Firing, Watched, check
from tests.rules.things import GPU, GPU_LABELS, GPU_NAME, on_gpu

HELD = f'namespace="lab",pod="train-0",container="main",{GPU}'
INFO = (
    f'gpu_allocation_info{{{HELD},gpu_uuid="GPU-a",sharing="exclusive",'
    'workload_kind="Job",workload="train"}'
)


def xid_last(xid: int, action: str) -> str:
    return f'gpu_xid_last_timestamp_seconds{{{GPU},xid="{xid}",action="{action}"}}'


ALMOST = {15: "14m 0s", 60: "59m 0s", 1440: "23h 59m 0s"}


def xid(alert: str, severity: str, code: int, action: str, text: str) -> Watched:
    """Make the cases of a class of XIDs, of which one comes after ten minutes."""
    series = {xid_last(code, action): "_x10 600x1500"}

    def fires(ago: str) -> tuple[Firing, ...]:
        labels = {"xid": str(code), "action": action}
        return (on_gpu(f"{GPU_NAME} reported XID {code} {ago} ago; {text}", **labels),)

    stays = {"GPUXidFollowUp": 15, "GPUXidResetGPU": 1440, "GPUXidRestartNode": 1440}.get(alert, 60)
    kept = 10 if severity == "critical" else 0
    return Watched(
        alert,
        severity,
        "operator",
        (
            Case("the first of its kind", series, {"9m": (), "12m": fires("2m 0s")}),
            Case(
                "it is long ago",
                series,
                {f"{9 + stays}m": fires(ALMOST[stays]), f"{10 + stays + kept}m": ()},
            ),
            Case(
                "the same once more",
                {xid_last(code, action): "0x69 4200x9"},
                {"71m": fires("1m 0s")},
            ),
            Case("of another class", {xid_last(43, "ignore"): "600x20"}, {"12m": ()}),
            Case(
                "the exporter is gone",
                {xid_last(code, action): "600x11 stale"},
                {"14m": fires("1m 0s") if kept else (), f"{14 + kept}m": ()},
            ),
        ),
    )


WATCHED = (
    Watched(
        "GPUXidApplication",
        "warning",
        "owner",
        (
            Case(
                "the first of its kind",
                {INFO: "1x30", xid_last(31, "restart_app"): "_x10 600x20"},
                {
                    "9m": (),
                    "11m": (
                        Firing(
                            f"{GPU_NAME} reported XID 31 1m 0s ago, which is an application's"
                            " error."
                            " Container main of pod lab/train-0 holds it or did just then: look"
                            " into its log, and restart it.",
                            {
                                **GPU_LABELS,
                                "namespace": "lab",
                                "pod": "train-0",
                                "container": "main",
                                "xid": "31",
                            },
                        ),
                    ),
                    "15m": (),
                },
            ),
            Case(
                "on a slice: whoever is on the board, each once, by the latest code",
                {
                    INFO.replace('uuid="GPU-a",gpu_', 'uuid="MIG-a",gpu_'): "1x30",
                    INFO.replace('uuid="GPU-a",gpu_', 'uuid="MIG-b",gpu_').replace(
                        "train-0", "b"
                    ): "1x30",
                    xid_last(31, "restart_app"): "_x9 540x20",
                    xid_last(13, "restart_app"): "_x10 600x20",
                },
                {
                    "11m": tuple(
                        Firing(
                            f"GPU 0 ({uuid}) of node n1 reported XID 13 1m 0s ago, which is an"
                            f" application's error. Container main of pod lab/{pod} holds it or did"
                            " just then: look into its log, and restart it.",
                            {
                                "node": "n1",
                                "gpu": "0",
                                "uuid": uuid,
                                "namespace": "lab",
                                "pod": pod,
                                "container": "main",
                                "xid": "13",
                            },
                        )
                        for uuid, pod in (("MIG-a", "train-0"), ("MIG-b", "b"))
                    )
                },
            ),
            Case(
                "of another class",
                {INFO: "1x30", xid_last(79, "restart_node"): "600x20"},
                {"11m": ()},
            ),
            Case("nobody held the GPU", {xid_last(31, "restart_app"): "600x20"}, {"11m": ()}),
            Case(
                "the container ended with it",
                {INFO: "1x10 stale", xid_last(31, "restart_app"): "_x10 600x20"},
                {"16m": ()},
            ),
        ),
    ),
    xid(
        "GPUXidResetGPU",
        "critical",
        119,
        "reset_gpu",
        "NVIDIA says to reset it: drain the node's GPU pods first.",
    ),
    xid(
        "GPUXidRestartNode",
        "critical",
        79,
        "restart_node",
        "NVIDIA says to restart the node.",
    ),
    xid(
        "GPUXidHardware",
        "warning",
        48,
        "check_ecc",
        "what NVIDIA says to do is check_ecc.",
    ),
    xid(
        "GPUXidFollowUp",
        "info",
        45,
        "follow_up",
        "another XID, or whoever ended the application, tells why.",
    ),
    xid(
        "GPUXidUnknown",
        "warning",
        999,
        "unknown",
        "it is in none of the lists that this exporter knows: look it up in NVIDIA's.",
    ),
)


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.alert)
def test_alert(watched: Watched, tmp_path: Path) -> None:
    check(watched, tmp_path)
