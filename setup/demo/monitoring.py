"""Prometheus and Alertmanager, set up for the exporter as a cluster should have them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from setup.demo.servers import Server, running


@dataclass(frozen=True)
class Target:
    """What Prometheus scrapes, as service discovery would find it."""

    address: str
    """``host:port``; metrics are on ``/metrics``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """For series that do not say it themselves, ``up`` above all: ``node``."""


class Prometheus(Server):
    def alerts_page(self) -> str:
        """Return the address of the page of alerts: Debian's package has only the old one."""
        there = [path for path in ("/alerts", "/classic/alerts") if self.get(path)[0] == 200]
        return f"{self.url}{there[0] if there else '/'}"

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an instant query's answer, now."""
        found = self.ask("/api/v1/query", query=expression)["data"]["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        return list(self.ask("/api/v1/alerts")["data"]["alerts"])

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule, with ``health`` and ``lastError``."""
        groups = self.ask("/api/v1/rules")["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


class Alertmanager(Server):
    def has_page(self) -> bool:
        """Return whether there is a page for people, which Debian's package leaves out."""
        return "<script" in self.get("/")[1]

    def alerts(self) -> list[dict[str, Any]]:
        """Return what it knows: with ``status.state`` active or suppressed, and by what."""
        return list(self.ask("/api/v2/alerts"))


def prometheus(
    folder: Path,
    targets: Sequence[Target],
    *,
    rules: Sequence[Path] = (),
    alerts_to: str | None = None,
    interval: str = "1s",
    port: int = 0,
) -> AbstractContextManager[Prometheus]:
    """Run Prometheus with its configuration and data in ``folder``.

    ``interval`` is how often it scrapes and evaluates ``rules``; ``alerts_to`` the address of
    an Alertmanager; port 0 a free one.
    """
    configuration = {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "scrape_configs": [
            {
                "job_name": "kube-gpu-exporter",
                # The exporter's labels namespace, pod and container are those of the workload.
                "honor_labels": True,
                "static_configs": [
                    {"targets": [target.address], "labels": dict(target.labels)}
                    for target in targets
                ],
            }
        ],
        "rule_files": [str(path.absolute()) for path in rules],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [alerts_to]}]}] if alerts_to else []
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return running(
        Prometheus,
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        # What fires at once is sent before Prometheus knows Alertmanager's address.
        "--rules.alert.resend-delay=5s",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}",
    )


def alertmanager(
    folder: Path, configuration: Path, *, port: int = 0
) -> AbstractContextManager[Alertmanager]:
    """Run Alertmanager with a configuration file, and its data in ``folder``."""
    return running(
        Alertmanager,
        "prometheus-alertmanager",
        f"--config.file={configuration}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.external-url=http://localhost:{port}",
        "--cluster.listen-address=",
    )
