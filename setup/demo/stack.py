"""From a GPU to a message: a simulated node, and servers with the rules and routes as shipped.

Time is short here. The node's story passes ``pace`` times as fast as the clock, and what rules and
routes wait for passes still faster, so that a story of minutes has what takes hours elsewhere.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rules import render
from rules.settings import Settings
from setup.demo.monitoring import Alertmanager, Prometheus, Target, alertmanager, prometheus
from setup.demo.receiver import Message, Receiver, receiver
from setup.demo.routes import rehearsal
from setup.demo.servers import Server, running

NODE = "simulated-node"

RULES_PER_STORY = 12
"""How much faster time passes for the rules than in the story: five minutes of it are an hour."""
_SCRAPE_SECONDS = 60.0
_TICK_SECONDS = 0.2
"""The exporter's full tick, on the clock."""


class Exporter(Server):
    listens = re.compile(r"serves http://(\S+)/metrics")
    ready = "/readyz"


@dataclass(frozen=True)
class Ports:
    """Where they listen; 0: on a free port."""

    exporter: int = 0
    prometheus: int = 0
    alertmanager: int = 0


@dataclass(frozen=True)
class Stack:
    exporter: Exporter
    prometheus: Prometheus
    alertmanager: Alertmanager
    receiver: Receiver

    def ended(self) -> str:
        """Return the name of a server that has ended, which none should, or nothing."""
        servers = (self.exporter, self.prometheus, self.alertmanager)
        return next((type(server).__name__ for server in servers if server.ended), "")


@contextmanager
def stack(
    folder: Path,
    settings: Settings,
    *,
    pace: float,
    show: Callable[[Message], None] = lambda _: None,
    ports: Ports = Ports(),
) -> Iterator[Stack]:
    """Run it all until the block ends, with its files in ``folder``.

    ``show`` is called with each message.
    """
    scale = RULES_PER_STORY * pace
    tick = {"alerts.GPUExporterSlow.tickSeconds": _TICK_SECONDS * scale}
    paths = []
    for name, content in render.rule_files(
        replace(settings, values={**settings.values, **tick}), scale
    ).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    with ExitStack() as running_until:
        enter = running_until.enter_context
        inbox = enter(receiver(show))
        routes = folder / "alertmanager.yml"
        routes.write_text(rehearsal(inbox.url, scale))
        alerts = enter(alertmanager(folder / "alertmanager", routes, port=ports.alertmanager))
        exporter = enter(running(Exporter, *_exporter(pace, ports.exporter)))
        metrics = enter(
            prometheus(
                folder / "prometheus",
                [Target(exporter.address, labels={"node": NODE})],
                rules=paths,
                alerts_to=alerts.address,
                interval=f"{round(1000 * _SCRAPE_SECONDS / scale)}ms",
                port=ports.prometheus,
            )
        )
        yield Stack(exporter, metrics, alerts, inbox)


def _exporter(pace: float, port: int) -> Iterator[str]:
    yield from (sys.executable, "-m", "exporter", "serve", "--listen", f"127.0.0.1:{port}")
    yield from ("--node", NODE, "--backend", "simulated", "--speed", f"{pace:g}")
    for kind in ("full", "slow", "kubelet"):
        yield from (f"--{kind}-interval", f"{1000 * _TICK_SECONDS:.0f}ms")
    yield from ("--fast-interval", "100ms", "--read-deadline", "500ms")
    yield from ("--claims-grace", "1s", "--ended-grace", "2s")
