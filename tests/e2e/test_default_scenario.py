"""A simulated node's worst ten minutes, with the alerts and routes as shipped: who is told what."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rules.alerts import ALERTS
from rules.settings import defaults
from setup.demo.receiver import Message
from setup.demo.servers import until
from setup.demo.stack import NODE, Stack, stack

PACE = 10.0
STORY_SECONDS = 600 / PACE

# Once each, whatever else happens; "about" says how they are called here.
TOLD: Mapping[str, frozenset[str]] = {
    "pager": frozenset(
        {
            "GPUHung: GPU 0",
            "GPULost: GPU 7",
            "GPUOutOfMemoryLoop: leaky-finetune",
            "GPUOutOfMemoryLoop: sweep",
            "GPURecoveryActionNeeded: GPU 6",
            "GPUXidResetGPU: GPU 1 XID 119",
            "GPUXidRestartNode: GPU 7 XID 79",
        }
    ),
    "owners": frozenset(
        {
            "GPUContainerHostOOMKilled: tokenize-0",
            "GPUContainerUnderutilized: thumbnails-0",
            "GPUMemoryHeldIdle: forgotten-0",
            "GPUOutOfMemory: leaky-finetune",
            "GPUOutOfMemory: sweep-0",
            "GPUOutOfMemoryLoop: leaky-finetune",
            "GPUOutOfMemoryLoop: sweep",
            "GPUXidApplication: score-0 XID 31",
            "GPUXidApplication: score-1 XID 31",
        }
    ),
    "chat": frozenset(
        {
            "GPUEccUncorrectable: GPU 6",
            "GPUExporterSourceDown: kubelet",
            "GPUNvlinkErrors: GPU 1",
            "GPUPcieReplays: GPU 1",
            "GPUPowerBrakeSlowdown: GPU 1",
            "GPUThermalSlowdown: GPU 0",
            "GPUXidHardware: GPU 1 XID 74",
            "GPUXidHardware: GPU 3 XID 142",
            "GPUXidHardware: GPU 3 XID 159",
            "GPUXidHardware: GPU 4 XID 54",
            "GPUXidHardware: GPU 4 XID 78",
            "GPUXidHardware: GPU 6 XID 48",
            "GPUXidUnknown: GPU 3 XID 999",
        }
    ),
    "dead-mans-switch": frozenset({"Watchdog"}),
}
ENDED = {
    "GPUExporterSourceDown: kubelet",
    "GPUHung: GPU 0",
    "GPULost: GPU 7",
    "GPUMemoryHeldIdle: forgotten-0",
    "GPUNvlinkErrors: GPU 1",
    "GPUPowerBrakeSlowdown: GPU 1",
    "GPURecoveryActionNeeded: GPU 6",
    "GPUThermalSlowdown: GPU 0",
}
HELD_BACK = {
    "GPURowRemapPending: GPU 6",  # the driver asks for a reset
    "GPUXidRestartNode: GPU 7 XID 79",  # while the GPU is lost
}
NOBODY_S = {"GPUXidFollowUp"}
AT_THE_END = {"GPUExporterAbsent", "GPUExporterDown", "GPUExporterMissing"}
# promtool's tests of the rules have these, and this story can't:
NOT_IN_THE_STORY = {
    "GPUContainerIdle": "the idle container keeps GPU memory, so GPUMemoryHeldIdle fires",
    "GPUDriverDown": "the driver is back too soon, as after an upgrade",
    "GPUExporterSamplesStale": "no GPU stays unread without a reason that is told",
    "GPUExporterSlow": "the simulated driver answers at once",
    "GPUExporterUnresolvedClaims": "the simulated kubelet and driver agree",
    "GPUFewerThanAdvertised": "a lost GPU is still known",
    "GPULowActivity": "takes longer than the GPU stays",
    "GPUMemoryGrowing": "takes longer than the leaks last",
    "GPUMemoryHot": "the simulated memory does not get that hot",
    "GPUMemoryNearlyFull": "those that fill theirs take it beforehand",
    "GPUNvlinkDown": "no link goes down",
    "GPUOutOfMemoryPossible": "what runs out says so, or fills the GPU before our eyes",
    "GPUOversized": "needs hours, and the small ones hold slices",
    "GPUPcieLinkDegraded": "over too soon",
    "GPURetiredPages": "the GPUs are too new to retire pages",
    "GPURowRemapFailed": "every row finds a spare one",
    "GPUSharedOversubscribed": "what is shared is not used up for so long",
    "GPUSlowerThanPeers": "no workload has four whole GPUs",
    "GPUUnallocated": "needs a day",
    "GPUUnderutilized": "is DCGM-exporter's, and off",
    "GPUUnreadable": "a GPU that fails is lost or hangs",
    "GPUUsedOutsidePods": "all work is the pods'",
}


def test_every_alert_is_here_or_known_not_to_be() -> None:
    told = {about.partition(":")[0] for names in TOLD.values() for about in names}
    held = {about.partition(":")[0] for about in HELD_BACK}
    assert not NOT_IN_THE_STORY.keys() & (told | held | NOBODY_S | AT_THE_END)
    assert NOT_IN_THE_STORY.keys() | told | held | NOBODY_S | AT_THE_END == ALERTS.keys()


def test_the_default_scenario(tmp_path: Path) -> None:
    settings = defaults()
    settings = replace(
        settings, values={**settings.values, "dashboardsUrl": "https://grafana.example.com"}
    )
    with stack(tmp_path, settings, pace=PACE) as running:
        watch = Watch(running)
        until(watch.complete, watch.missing, seconds=2 * STORY_SECONDS)
        assert watch.arrived("firing") == TOLD
        assert {"ok"} == {rule["health"] for rule in running.prometheus.rules()}
        check_texts(running.receiver.messages)

        running.exporter.stop()
        running.receiver.await_message(lambda m: tells(m, "/chat", "GPUExporterDown"))
        running.receiver.await_message(lambda m: tells(m, "/pager", "GPUExporterAbsent"))
        until(
            lambda: {"GPUExporterDown", "GPUExporterMissing"} <= watch.held_back(),
            running.alertmanager.alerts,
        )
        heard = len(watch.of("/dead-mans-switch"))
        until(lambda: len(watch.of("/dead-mans-switch")) > heard, lambda: "the switch is silent")
        new = {
            (receiver, about)
            for receiver, names in watch.arrived("firing").items()
            for about in names - TOLD[receiver]
        }
        assert new == {("chat", "GPUExporterDown"), ("pager", "GPUExporterAbsent")}


class Watch:
    """What has arrived, and what never will."""

    def __init__(self, running: Stack) -> None:
        self._running = running
        self._begun = time.monotonic()
        self._held_back: set[str] = set()
        self._nobody_s: set[str] = set()

    def of(self, path: str) -> list[Message]:
        return [m for m in self._running.receiver.messages if m.path == path]

    def arrived(self, status: str) -> dict[str, frozenset[str]]:
        """Return by receiver which alerts were told of."""
        return {
            receiver: frozenset(
                about(alert["labels"])
                for message in self.of(f"/{receiver}")
                for alert in message.body["alerts"]
                if alert["status"] == status
            )
            for receiver in TOLD
        }

    def held_back(self) -> set[str]:
        self._look()
        return self._held_back

    def missing(self) -> object:
        fired, ended = self.arrived("firing"), self.arrived("resolved")
        return (
            {receiver: names - fired[receiver] for receiver, names in TOLD.items()},
            ENDED.difference(*ended.values()),
            HELD_BACK - self._held_back,
            NOBODY_S - self._nobody_s,
        )

    def complete(self) -> bool:
        """Return whether the story was told to its end and all that should arrive has."""
        self._look()
        fired, ended = self.arrived("firing"), self.arrived("resolved")
        return (
            time.monotonic() - self._begun > STORY_SECONDS
            and all(names <= fired[receiver] for receiver, names in TOLD.items())
            and ended["pager"] | ended["chat"] | ended["owners"] >= ENDED
            and self._held_back >= HELD_BACK
            and self._nobody_s >= NOBODY_S
        )

    def _look(self) -> None:
        for alert in self._running.alertmanager.alerts():
            if alert["status"]["inhibitedBy"]:
                self._held_back.add(about(alert["labels"]))
            if {"name": "nobody"} in alert["receivers"]:
                self._nobody_s.add(alert["labels"]["alertname"])


def about(labels: Mapping[str, str]) -> str:
    """Return the alert's name and what it is about, as a person would say it."""
    thing = labels.get("workload") or labels.get("pod") or labels.get("source")
    if thing is None and "gpu" in labels:
        thing = f"GPU {labels['gpu']}"
    words = [f"{labels['alertname']}:", thing] if thing else [labels["alertname"]]
    return " ".join((*words, *(["XID", labels["xid"]] if "xid" in labels else [])))


def tells(message: Message, path: str, alert: str) -> bool:
    return message.path == path and message.body["commonLabels"].get("alertname") == alert


def check_texts(messages: tuple[Message, ...]) -> None:
    """Check that whatever arrived as labels has also been said in the receiver's own way."""
    said = "\n\n".join(texts(messages))
    for message in messages:
        if message.path in {"/pager", "/owners", "/chat"}:
            for alert in message.body["alerts"]:
                assert alert["annotations"]["summary"] in said
                assert f"/{alert['labels']['alertname']}.md" in said
    assert (
        "A GPU has fallen off the bus.\n"
        f"Where: node {NODE}, GPU 7\n"
        "The driver can't reach GPU 7 (GPU-4b6abae0-d327-52e1-b225-3057aef36918) of node"
    ) in said
    assert f"d/gpu-health?var-node={NODE}&var-gpu=7\nSilence: " in said
    assert (
        "*An idle container keeps GPU memory.*\n"
        f"_pod data/forgotten-0, container main, node {NODE}, GPU 3_\n"
    ) in said
    assert (
        "<https://grafana.example.com/d/gpu-workload?"
        f"var-node={NODE}&var-namespace=data&var-pod=forgotten-0&var-gpu=3|Dashboard>"
    ) in said
    channels = {m.body["channel"] for m in messages if m.path == "/owners/slack"}
    assert channels == {"#gpu-batch", "#gpu-data", "#gpu-research", "#gpu-serving"}


def texts(messages: tuple[Message, ...]) -> Iterator[str]:
    for message in messages:
        if message.path.endswith("/pagerduty"):
            details = message.body["payload"]["custom_details"]
            yield details["text"]
        elif message.path.endswith("/slack"):
            (attachment,) = message.body["attachments"]
            yield attachment["text"]
