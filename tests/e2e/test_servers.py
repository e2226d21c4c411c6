"""The servers that the other end-to-end tests, and the demo, are made of."""

import re
import socket
import sys
from pathlib import Path

import pytest

from setup.demo.monitoring import Target, alertmanager, prometheus
from setup.demo.receiver import Message, receiver
from setup.demo.servers import Server, ServerError, running, until

RULES = """
groups:
  - name: test
    rules:
      - alert: TargetUp
        expr: up{job="kube-gpu-exporter"} == 1
"""
ROUTES = """
route: {{receiver: all, group_wait: 0s, group_interval: 1s}}
receivers:
  - name: all
    webhook_configs: [{{url: {url}/all}}]
"""


class Web(Server):
    listens = re.compile(r"HTTP on (\S+)")
    ready = "/metrics"


SERVE = """
import http.server, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
print(f"HTTP on 127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
"""


def test_an_alert_fires_arrives_and_resolves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics").write_text('some_metric{pod="theirs"} 7\n')
    (tmp_path / "rules.yml").write_text(RULES)
    routes = tmp_path / "alertmanager.yml"
    with receiver() as inbox:
        routes.write_text(ROUTES.format(url=inbox.url))
        with (
            running(Web, sys.executable, "-c", SERVE) as web,
            alertmanager(tmp_path / "alertmanager", routes) as alerts,
            prometheus(
                tmp_path / "prometheus",
                [Target(web.address, labels={"node": "n1", "pod": "ours"})],
                rules=[tmp_path / "rules.yml"],
                alerts_to=alerts.address,
            ) as metrics,
        ):
            fired = inbox.await_message(lambda m: m.body["status"] == "firing")
            assert fired.path == "/all"
            (alert,) = fired.body["alerts"]
            assert alert["labels"]["alertname"] == "TargetUp"
            assert alert["labels"]["node"] == "n1"
            assert [alert["labels"]["alertname"] for alert in alerts.alerts()] == ["TargetUp"]
            assert [alert["state"] for alert in metrics.alerts()] == ["firing"]
            assert {rule["health"] for rule in metrics.rules()} == {"ok"}

            ((labels, value),) = metrics.query("some_metric")
            assert (labels["pod"], labels["node"], value) == ("theirs", "n1", 7)
            with pytest.raises(ServerError, match="400"):
                metrics.query("some_metric{")

            web.stop()
            inbox.await_message(lambda m: m.body["status"] == "resolved")
    assert web.get("/")[0] == metrics.get("/")[0] == alerts.get("/")[0] == 0


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "alertmanager.yml").write_text("route: {receiver: nobody}")
    with (
        pytest.raises(ServerError, match="undefined receiver"),
        alertmanager(tmp_path, tmp_path / "alertmanager.yml"),
    ):
        pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerError, match="address already in use"),
            prometheus(tmp_path, [], port=port),
        ):
            pass


def test_what_does_not_come_is_told() -> None:
    with pytest.raises(ServerError, match=r"not within 0\.1 s: why"):
        until(lambda: False, lambda: "why", 0.1)
    with receiver() as inbox:
        inbox.take(Message("/there", {}))
        with pytest.raises(ServerError, match="/there"):
            inbox.await_message(lambda m: m.path == "/elsewhere", 0.1)
