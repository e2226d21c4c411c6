"""What ``helm test`` runs, run here, against real exporters."""

import subprocess
import sys
from pathlib import Path

from tests.daemonset.render import find, helm_template
from tests.doubles.process import Exporter, exporter


def ask(service: str, port: str) -> subprocess.CompletedProcess[str]:
    """Run the pod's command as it is rendered, but for where it asks."""
    (container,) = find(helm_template(), "Pod")["spec"]["containers"]
    python, flag, script, name, asked, scheme = container["command"]
    assert (python, name, asked) == ("python3", "kube-gpu-exporter", "9400")
    return subprocess.run(
        [sys.executable, flag, script, service, port, scheme],
        capture_output=True,
        text=True,
        check=False,
    )


def port(running: Exporter) -> str:
    return running.url.rpartition(":")[2]


def test_exporters_that_are_ready() -> None:
    with exporter("--backend", "simulated") as running:
        running.until(lambda: running.ready()[0])
        done = ask("127.0.0.1", port(running))
    assert (done.returncode, done.stdout) == (0, "127.0.0.1 is ready\n"), done.stderr


def test_an_exporter_without_a_driver_says_so() -> None:
    scenario = Path(__file__).parents[1] / "golden" / "no-driver.yaml"
    with exporter("--backend", "simulated", "--scenario", scenario) as running:
        running.until(lambda: "simulated" in running.ready()[1])
        done = ask("127.0.0.1", port(running))
    assert done.returncode == 1
    assert done.stdout.startswith("127.0.0.1 is not ready: simulated: ")


def test_nobody_there() -> None:
    done = ask("no-such-service.invalid", "9400")
    assert done.returncode == 1
    assert "no-such-service.invalid has no pods" in done.stderr
    done = ask("127.0.0.1", "1")
    assert done.returncode == 1
    assert "Connection refused" in done.stdout
