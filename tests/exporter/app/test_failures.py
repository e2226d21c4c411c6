"""Each row of what may fail on a node, injected into the real program.

The driver's own side of these, error by error, is in tests/exporter/gpus/nvml, and the kubelet's
in tests/exporter/kubelet.
"""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.process import cpu_seconds
from tests.doubles.process import exporter

POD = "{namespace: ml, pod: train, gpu: 0, workload: training}"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return tmp_path / "scenario.yaml"


def simulated(path: Path, faults: str, profile: str = "t4") -> tuple[str | Path, ...]:
    path.write_text(f"description: A test.\npods:\n  - {POD}\nfaults:\n  - {faults}\n")
    return ("--backend", "simulated", "--profile", profile, "--scenario", path)


def test_metrics_are_there_within_two_seconds_of_the_start() -> None:
    with exporter("--backend", "simulated") as running:
        running.until(lambda: running.value("gpu_utilization_ratio", gpu="0") is not None)
        # Of the processor's time: the clock's also counts what else this machine does.
        assert cpu_seconds(running.process.pid) < 2.0
        assert running.stop()[0] == 0


def test_no_driver_at_start_and_loaded_later(scenario: Path) -> None:
    with exporter(*simulated(scenario, "{fault: driver_unloaded, at: 0, for: 2}")) as running:
        running.until(lambda: "driver is not loaded" in running.ready()[1]["simulated"])
        assert not running.ready()[0]
        assert running.value("gpu_exporter_source_up", source="simulated") == 0
        assert running.get("/healthz")[0] == 200
        running.until(lambda: running.ready()[0])
        running.until(lambda: running.value("gpu_info", gpu="0") == 1)


def test_driver_upgraded_under_us(scenario: Path) -> None:
    upgrade = "{fault: driver_unloaded, at: 1.5, for: 1, version: '999.99'}"
    with exporter(*simulated(scenario, upgrade)) as running:
        running.until(lambda: (running.value("gpu_busy_seconds_total", gpu="0") or 0) > 0)
        energy = running.value("gpu_energy_joules_total", gpu="0")
        running.until(lambda: running.value("gpu_exporter_source_up", source="simulated") == 0)
        assert running.value("gpu_info", gpu="0") is None
        assert running.value("gpu_utilization_ratio", gpu="0") is None
        running.until(lambda: running.value("gpu_info", driver_version="999.99", gpu="0") == 1)
        running.until(lambda: (running.value("gpu_busy_seconds_total", gpu="0") or 0) > 0)
        after = running.value("gpu_energy_joules_total", gpu="0")
        assert energy is not None
        assert after is not None
        assert after >= energy


def test_gpu_lost_and_back(scenario: Path) -> None:
    with exporter(*simulated(scenario, "{fault: gpu_lost, gpu: 0, at: 1, for: 1.5}")) as running:
        running.until(lambda: running.value("gpu_exporter_gpus", state="lost") == 1)
        assert running.value("gpu_memory_used_bytes", gpu="0") is None
        assert running.value("gpu_memory_used_bytes", gpu="1") is not None
        running.until(lambda: running.value("gpu_xid_errors_total", gpu="0", xid="79") == 1)
        assert running.value("gpu_allocation_info", pod="train") == 1
        assert running.value("gpu_container_busy_seconds_total", pod="train") is None
        running.until(lambda: running.ready() == (True, {"gpus": "GPU 0 is lost"}))


def test_gpu_hung(scenario: Path) -> None:
    with exporter(*simulated(scenario, "{fault: gpu_hung, gpu: 0, at: 1}")) as running:
        running.until(lambda: running.value("gpu_exporter_gpus", state="hung") == 1)
        assert running.value("gpu_memory_used_bytes", gpu="0") is None
        assert running.value("gpu_memory_used_bytes", gpu="1") is not None
        assert running.value("gpu_exporter_read_failures_total", gpu="0", reason="timeout") == 1
        times = []
        for _ in range(20):
            begun = time.monotonic()
            running.get("/metrics")
            times.append(time.monotonic() - begun)
        assert sorted(times)[10] < 0.1
        code, seconds = running.stop()
        assert (code, seconds < 2.0) == (0, True)


def test_gpu_hung_comes_back_by_itself(scenario: Path) -> None:
    with exporter(*simulated(scenario, "{fault: gpu_hung, gpu: 0, at: 1, for: 2}")) as running:
        running.until(lambda: running.value("gpu_exporter_gpus", state="hung") == 1)
        running.until(lambda: running.value("gpu_utilization_ratio", gpu="0") is not None)
        assert running.value("gpu_exporter_gpus", state="hung") == 0


def test_mig_reconfigured(scenario: Path) -> None:
    cut = "{fault: mig_reconfigure, gpu: 7, at: 1.5, slices: [7g]}"
    with exporter(*simulated(scenario, cut, profile="h200-mixed")) as running:

        def profiles() -> set[str]:
            return {
                dict(labels)["profile"]
                for (name, labels) in running.scrape()
                if name == "gpu_mig_info" and ("gpu", "7") in labels
            }

        running.until(lambda: bool(profiles()))
        before = profiles()
        running.until(lambda: profiles() == {"7g.141gb"})
        assert before
        assert "7g.141gb" not in before


def test_kubelet_down_and_back(scenario: Path) -> None:
    fault = "{fault: kubelet_down, at: 1.5, for: 3}"
    with exporter(*simulated(scenario, fault), "--claims-grace", "1s") as running:
        running.until(lambda: running.value("gpu_allocation_info", pod="train") == 1)
        running.until(lambda: running.value("gpu_exporter_source_up", source="kubelet") == 0)
        assert running.value("gpu_allocation_info", pod="train") == 1  # within the grace
        assert running.ready()[0]
        running.until(lambda: running.value("gpu_allocation_info", pod="train") is None)
        assert running.value("gpu_memory_used_bytes", gpu="0") is not None
        running.until(lambda: running.value("gpu_allocation_info", pod="train") == 1)
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (INFO|WARNING) ", line) for line in running.log)


def test_a_container_that_runs_out_of_gpu_memory_over_and_over(scenario: Path) -> None:
    scenario.write_text(
        "description: A leak.\npods:\n  - {namespace: ml, pod: leak-0, gpu: 0, exempt: underuse,"
        " workload: {kind: leak, period: 3s, backoff: 1s}}\n"
    )
    arguments = ("--backend", "simulated", "--profile", "t4", "--scenario", scenario)
    with exporter(*arguments, "--pod-labels", "team", "--pod-events", "on") as running:

        def counted() -> float | None:
            return running.value(
                "gpu_container_oom_events_total", pod="leak-0", confidence="confirmed"
            )

        running.until(lambda: counted() == 0)
        running.until(lambda: counted() == 1)
        running.until(lambda: counted() == 2)
        told = {"workload": "leak", "label_team": "ml", "exempt": "underuse"}
        assert running.value("gpu_allocation_info", **told) == 1
        assert running.value("gpu_exporter_source_up", source="kubernetes") == 1
        assert running.value("gpu_exporter_source_up", source="kubernetes_events") == 1
        assert any("it ran out of GPU memory" in line for line in running.log)


def test_a_pod_watch_without_an_api_server_costs_pod_records_alone(scenario: Path) -> None:
    scenario.write_text("apiVersion: v1\nkind: Config\nclusters: []\n")
    arguments = ("--backend", "nvml", "--pod-watch", "on", "--node", "n1", "--kubelet", "off")
    with exporter(*arguments, environment={"KUBECONFIG": str(scenario)}) as running:
        running.until(lambda: running.value("gpu_exporter_source_up", source="kubernetes") == 0)
        running.until(lambda: "kubernetes" in running.ready()[1])
        assert running.get("/healthz")[0] == 200
        assert running.stop()[0] == 0


def test_stop_while_the_kubelet_hangs(tmp_path: Path) -> None:
    silent = tmp_path / "k.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(silent))
        listening.listen()
        arguments = ("--backend", "nvml", "--kubelet", "on", "--kubelet-socket", str(silent))
        with exporter(*arguments, "--kubelet-timeout", "1m") as running:
            code, seconds = running.stop()
    assert (code, seconds < 2.0) == (0, True)


def test_stop_while_a_name_is_looked_up_for_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, sys, time\n"
        "real = socket.getaddrinfo\n"
        "def look_up(host, *rest, **more):\n"
        "    if host == 'api.invalid':\n"
        "        print('looking up', file=sys.stderr, flush=True)\n"
        "        time.sleep(60)\n"
        "    return real(host, *rest, **more)\n"
        "socket.getaddrinfo = look_up\n"
    )
    config = tmp_path / "kubeconfig"
    config.write_text(
        "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}],"
        " clusters: [{name: k, cluster: {server: 'http://api.invalid:6443'}}],"
        " contexts: [{name: c, context: {cluster: k, user: u}}]}"
    )
    environment = {"KUBECONFIG": str(config), "PYTHONPATH": str(tmp_path)}
    arguments = ("--backend", "nvml", "--pod-watch", "on", "--node", "n1", "--kubelet", "off")
    with exporter(*arguments, environment=environment) as running:
        running.until(lambda: "looking up" in running.log)
        code, seconds = running.stop()
    assert (code, seconds < 2.0) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--full-interval", "x"], "--full-interval: 'x' is not a duration (such as 5s)"),
        (["--no-such"], "--no-such: no such option"),
        (["--listen=127.0.0.1:0", "--pod-watch=on"], "pod-watch: on wants the node's name"),
        (["--listen", "192.0.2.1:9400"], "listen: 192.0.2.1:9400: Cannot assign requested address"),
        (["--config", "/nonexistent"], "--config: cannot read '/nonexistent'"),
        (
            ["--listen=127.0.0.1:0", "--backend", "simulated", "--scenario", "/nonexistent"],
            "scenario: /nonexistent: No such file or directory",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "exporter", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(f"kube-gpu-exporter: error: {message}")
