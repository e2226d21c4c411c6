"""The Alertmanager example on a real Alertmanager: what is held back, and what messages say."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from setup.demo.monitoring import Alertmanager, alertmanager
from setup.demo.receiver import Receiver, receiver
from setup.demo.routes import EXAMPLE, MUTED, rehearsal
from setup.demo.servers import until

LOST = {"alertname": "GPULost", "severity": "critical", "node": "n1", "gpu": "7", "uuid": "GPU-7"}
DOWN = {"alertname": "GPUExporterDown", "severity": "warning", "node": "n1"}
HOT = {
    "alertname": "GPUMemoryHot",
    "severity": "warning",
    "node": "n1",
    "gpu": "7",
    "uuid": "GPU-7",
}
IDLE = {
    "alertname": "GPUContainerIdle",
    "severity": "warning",
    "audience": "owner",
    "node": "n1",
    "gpu": "7",
    "uuid": "MIG-7",
    "namespace": "research",
    "pod": "llm-0",
    "container": "trainer",
}
RESET = LOST | {"alertname": "GPURecoveryActionNeeded", "action": "reset"}
REMAP = HOT | {"alertname": "GPURowRemapPending"}
NODE = DOWN | {"alertname": "KubeNodeNotReady"}
FOREIGN = LOST | {"alertname": "KubePersistentVolumeFillingUp"}
LOOP = {
    "alertname": "GPUOutOfMemoryLoop",
    "severity": "critical",
    "audience": "owner",
    "namespace": "research",
    "workload_kind": "Job",
    "workload": "llm",
}

TEXT = {
    "summary": "GPU 7 has fallen off the bus",
    "description": "Utilization < 1 % & no answer.",
    "runbook_url": "https://runbooks.example.com/GPULost",
    "dashboard_url": "https://grafana.example.com",
}

SILENCE = "http://localhost:0/#/silences/new"


@dataclass
class Desk:
    """A running Alertmanager and what it sent."""

    server: Alertmanager
    inbox: Receiver

    def tell(self, *alerts: Mapping[str, str], ended: bool = False) -> None:
        """Tell it of alerts, as Prometheus would."""
        times = {"startsAt": "2026-01-01T00:00:00Z"} | (
            {"endsAt": "2026-01-01T00:00:01Z"} if ended else {}
        )
        body = [{"labels": labels, "annotations": TEXT} | times for labels in alerts]
        urllib.request.urlopen(  # noqa: S310
            urllib.request.Request(  # noqa: S310
                f"{self.server.url}/api/v2/alerts",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            ),
            timeout=5,
        ).close()

    def held_back(self) -> list[dict[str, str]]:
        """Return which alerts are inhibited, by all that it has been told."""
        # It looks for sources in the order in which they come: this one is the last.
        self.tell(DOWN | {"node": "last"}, HOT | {"node": "last"})
        until(lambda: HOT | {"node": "last"} in self._inhibited(), self.server.alerts)
        return [labels for labels in self._inhibited() if labels.get("node") != "last"]

    def _inhibited(self) -> list[dict[str, str]]:
        return [a["labels"] for a in self.server.alerts() if a["status"]["inhibitedBy"]]

    def message(self, path: str) -> dict[str, Any]:
        return self.inbox.await_message(lambda m: m.path == path).body


@contextmanager
def desk(folder: Path, *, muted: str = MUTED) -> Iterator[Desk]:
    with receiver() as inbox:
        path = folder / "alertmanager.yml"
        path.write_text(rehearsal(inbox.url, scale=300).replace(MUTED, muted))
        with alertmanager(folder, path) as server:
            yield Desk(server, inbox)


def test_the_example_is_accepted() -> None:
    check = subprocess.run(
        ["amtool", "check-config", EXAMPLE],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr
    assert "1 templates" in check.stdout


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (LOST, HOT),
        (LOST | {"alertname": "GPUHung"}, HOT),
        (LOST, IDLE),  # on a slice of that GPU
        (DOWN, HOT),
        (DOWN, LOST),
        (DOWN, IDLE),
        (DOWN, DOWN | {"alertname": "GPUExporterMissing"}),
        (DOWN | {"alertname": "GPUExporterMissing"}, HOT),
        (DOWN | {"alertname": "GPUDriverDown"}, LOST),
        (DOWN | {"alertname": "KubeNodeUnreachable"}, HOT),
        (NODE, DOWN),
        (NODE, DOWN | {"alertname": "GPUDriverDown"}),
        ({"alertname": "GPUExporterAbsent", "severity": "critical"}, DOWN),
        (RESET, REMAP),
        (RESET | {"alertname": "GPUXidRestartNode"}, IDLE | {"alertname": "GPUXidApplication"}),
        (RESET | {"alertname": "GPURowRemapFailed"}, HOT | {"alertname": "GPUXidFollowUp"}),
        (IDLE | {"alertname": "GPUMemoryHeldIdle"}, IDLE),
    ],
)
def test_what_follows_from_another_alert_is_held_back(
    tmp_path: Path, source: dict[str, str], target: dict[str, str]
) -> None:
    with desk(tmp_path) as at:
        at.tell(source, target)
        assert at.held_back() == [target]
        at.tell(source, ended=True)
        assert at.held_back() == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (LOST, HOT | {"uuid": "GPU-8"}),  # whatever index the two have now
        (LOST, IDLE | {"gpu": "6", "uuid": "MIG-6"}),
        (LOST, IDLE | {"node": "n2"}),
        (LOST, LOST | {"alertname": "GPUHung"}),
        (DOWN, HOT | {"node": "n2"}),
        (DOWN, FOREIGN),
        (DOWN | {"alertname": "GPUDriverDown"}, FOREIGN),
        (NODE, FOREIGN),
        (LOST, FOREIGN),
        (LOST, FOREIGN | {"uuid": "MIG-7"}),
        ({"alertname": "GPUExporterDown", "severity": "warning"}, {"alertname": "Watchdog"}),
        (DOWN | {"cluster": "east"}, HOT | {"cluster": "west"}),
        (RESET, REMAP | {"gpu": "6", "uuid": "GPU-6"}),
        (RESET, HOT),
        (LOOP, IDLE | {"alertname": "GPUOutOfMemory"}),  # which may be another workload's
        (IDLE | {"alertname": "GPUMemoryHeldIdle"}, IDLE | {"container": "sidecar"}),
    ],
)
def test_what_does_not_follow_is_told(
    tmp_path: Path, source: dict[str, str], target: dict[str, str]
) -> None:
    with desk(tmp_path) as at:
        at.tell(source, target)
        assert at.held_back() == []


def test_a_page(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(LOST)
        page = at.message("/pager/pagerduty")
    assert page["event_action"] == "trigger"
    assert page["payload"]["severity"] == "critical"
    assert page["payload"]["summary"] == "[FIRING:1] GPULost on n1"
    assert page["payload"]["custom_details"]["text"].splitlines() == [
        "GPU 7 has fallen off the bus",
        "Where: node n1, GPU 7",
        "Utilization < 1 % & no answer.",
        "Runbook: https://runbooks.example.com/GPULost",
        "Dashboard: https://grafana.example.com",
        f"Silence: {SILENCE}?filter=%7Balertname%3D%22GPULost%22%2Cnode%3D%22n1%22%7D",
    ]
    assert page["links"] == [
        {"href": TEXT["runbook_url"], "text": "Runbook"},
        {"href": TEXT["dashboard_url"], "text": "Dashboard"},
    ]


def test_the_owner_s_message(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(IDLE)
        message = at.message("/owners/slack")
    (attachment,) = message["attachments"]
    assert message["channel"] == "#gpu-research"
    assert attachment["color"] == "warning"
    assert attachment["title"] == "[FIRING:1] GPUContainerIdle on n1 in research"
    assert attachment["text"].splitlines() == [
        "*GPU 7 has fallen off the bus*",
        "_pod research/llm-0, container trainer, node n1, GPU 7_",
        "Utilization &lt; 1 % &amp; no answer.",
        "<https://runbooks.example.com/GPULost|Runbook> · <https://grafana.example.com|Dashboard>",
        f"<{SILENCE}?filter=%7Balertname%3D%22GPUContainerIdle%22%2Cnamespace%3D%22research%22%7D|Silence>",
    ]


def test_a_page_about_a_workload_goes_to_its_owner_too(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(LOOP)
        assert at.message("/pager")["alerts"][0]["labels"] == LOOP
        assert at.message("/owners")["alerts"][0]["labels"] == LOOP
        page = at.message("/pager/pagerduty")
        assert "namespace%3D%22research%22" in page["payload"]["custom_details"]["text"]
        (attachment,) = at.message("/owners/slack")["attachments"]
    assert attachment["title"] == "[FIRING:1] GPUOutOfMemoryLoop in research"
    assert "\n_Job research/llm_\n" in attachment["text"]


def test_alerts_of_a_node_come_in_one_message(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(*(HOT | {"gpu": str(index), "uuid": f"GPU-{index}"} for index in range(12)))
        # The first may leave before the last has come in: waits are shrunk.
        message = at.inbox.await_message(
            lambda m: m.path == "/chat/slack" and "[FIRING:12] GPUMemoryHot on n1" in str(m.body)
        )
    (attachment,) = message.body["attachments"]
    assert attachment["text"].count("fallen off") == 10
    assert "\nThe first 10 of 12.\n" in attachment["text"]


def test_what_ended_is_told(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(HOT)
        at.message("/chat/slack")
        at.tell(HOT, ended=True)
        message = at.inbox.await_message(
            lambda m: m.path == "/chat/slack" and "RESOLVED" in str(m.body)
        )
    (attachment,) = message.body["attachments"]
    assert attachment["title"] == "[RESOLVED] GPUMemoryHot on n1"
    assert attachment["color"] == "good"
    assert attachment["text"].startswith(":white_check_mark: *GPU 7 has fallen off the bus*")


def test_the_dead_man_s_switch_hears_again_and_again(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell({"alertname": "Watchdog", "severity": "none"})
        until(lambda: len(at.inbox.messages) >= 3, lambda: at.inbox.messages)
        assert {message.path for message in at.inbox.messages} == {"/dead-mans-switch"}


def test_in_muted_hours_owners_are_told_of_what_would_be_over_by_the_morning(
    tmp_path: Path,
) -> None:
    with desk(tmp_path, muted="1970:2970") as at:
        at.tell(
            IDLE,
            IDLE | {"alertname": "GPUMemoryHeldIdle"},
            IDLE | {"alertname": "GPUOutOfMemory"},
            LOOP,
        )
        at.message("/pager")
        # The message that ends left after that of underuse would have: see the waits of both.
        at.tell(LOOP, ended=True)
        at.inbox.await_message(lambda m: m.path == "/owners" and m.body.get("status") == "resolved")
        told = {
            alert["labels"]["alertname"]
            for message in at.inbox.messages
            if message.path == "/owners"
            for alert in message.body["alerts"]
        }
        assert told == {"GPUOutOfMemory", "GPUOutOfMemoryLoop"}


def test_info_reaches_nobody(tmp_path: Path) -> None:
    with desk(tmp_path) as at:
        at.tell(IDLE | {"severity": "info"}, IDLE)
        assert [a["labels"] for a in at.message("/owners")["alerts"]] == [IDLE]
        assert {message.path.split("/")[1] for message in at.inbox.messages} == {"owners"}
