"""``doctor``: what it finds on nodes with one thing missing each."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from exporter.app import checks, doctor
from exporter.app.checks import Finding, Level
from exporter.config import Config
from exporter.gpus import GpuError
from exporter.model.claims import Claim, Claims, Container
from exporter.model.devices import Driver
from exporter.model.readings import (
    FieldFailure,
    Reason,
)
from tests.doubles.api_manifests import NODE
from tests.doubles.doctored_node import H100, SLICE, FakeBackend, FakeReader, write_node

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
UNWATCHED = (
    "not watched without a service-account token and the node's name: no workloads, no pod labels,"
    " no out-of-memory verdicts"
)


@pytest.fixture(autouse=True)
def _no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ACTIVITY_SECONDS", 0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_node(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(node=NODE, kubelet_socket=tmp_path / "pod-resources/kubelet.sock")


def found(
    backend: FakeBackend,
    config: Config,
    root: Path,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    patience: float = 5.0,
) -> dict[str, Finding]:
    findings = list(
        doctor.examine(config, backend, environment=environment, root=root, patience=patience)
    )
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def test_a_node_on_which_nothing_is_missing(root: Path, config: Config) -> None:
    backend = FakeBackend([FakeReader(H100)])
    findings = found(backend, replace(config, kubelet="off"), root)
    assert {name: (finding.level, finding.what) for name, finding in findings.items()} == {
        "driver": ("ok", "kernel module 580.159.04"),
        "device nodes": ("ok", "nvidia0 nvidiactl"),
        "library": ("ok", "driver 580.159.04 answers, CUDA up to 13.0"),
        "GPUs": ("ok", "1 x NVIDIA H100 80GB HBM3"),
        "MIG": ("ok", "no GPU is in MIG mode"),
        "readings": ("ok", "1 of 1 GPUs can be read"),
        "activity": ("ok", "1 of 1 GPUs have a performance monitor"),
        "kubelet": ("info", "not asked, because kubelet is off"),
        "node name": ("ok", NODE),
        "host PIDs": ("ok", "in the host's PID namespace"),
        "pods": ("info", UNWATCHED),
    }
    assert [finding.name for finding in findings.values() if finding.todo] == ["pods"]
    assert backend.closed


def test_a_node_without_anything(tmp_path: Path) -> None:
    backend = FakeBackend(error=GpuError(Reason.LIBRARY_NOT_FOUND, "no libnvidia-ml.so.1"))
    config = Config(kubelet_socket=tmp_path / "gone/kubelet.sock")
    findings = found(backend, config, tmp_path)
    assert {name: finding.level for name, finding in findings.items()} == {
        "driver": "fail",
        "device nodes": "fail",
        "library": "fail",
        "no GPU": "info",
        "kubelet": "warn",
        "node name": "warn",
        "host PIDs": "info",
        "pods": "info",
    }
    assert "modprobe nvidia" in findings["driver"].todo
    assert findings["library"].todo.startswith("install NVIDIA's driver")
    assert findings["device nodes"].todo == findings["library"].todo
    assert findings["no GPU"].todo.endswith("kube-gpu-exporter --backend simulated")


def test_a_gpu_without_a_driver_is_a_gpu(tmp_path: Path, config: Config) -> None:
    device = tmp_path / "sys/bus/pci/devices/0000:19:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    backend = FakeBackend(error=GpuError(Reason.LIBRARY_NOT_FOUND, "no libnvidia-ml.so.1"))
    findings = found(backend, config, tmp_path, IN_CLUSTER)
    assert "no GPU" not in findings
    assert "runtimeClassName: nvidia" in findings["device nodes"].todo
    assert "runtimeClassName: nvidia" in findings["library"].todo


def test_a_driver_that_answers_needs_nothing_of_the_kernel(tmp_path: Path, config: Config) -> None:
    """WSL2 has neither /proc/driver/nvidia nor /dev/nvidia*."""
    findings = found(FakeBackend([FakeReader(H100)]), config, tmp_path)
    assert {finding.level for finding in findings.values()} == {Level.OK, Level.INFO, Level.WARN}
    assert findings["driver"].level is findings["device nodes"].level is Level.INFO
    assert findings["driver"].what.endswith("but the driver answers, as it does in WSL2")
    assert findings["GPUs"].level is findings["readings"].level is Level.OK


@pytest.mark.parametrize(
    ("reason", "todo"),
    [
        (Reason.LIBRARY_NOT_FOUND, "runtimeClassName: nvidia"),
        (Reason.LIBRARY_NOT_FOUND, "mount /dev/null at /var/run/nvidia-container-devices/all"),
        (Reason.LIBRARY_MISMATCH, "restart this pod"),
        (Reason.DRIVER_NOT_LOADED, "modprobe nvidia"),
        (Reason.NO_PERMISSION, "run as root"),
        (Reason.UNKNOWN, "nvidia-smi"),
    ],
)
def test_a_library_that_does_not_answer(
    reason: Reason, todo: str, root: Path, config: Config
) -> None:
    backend = FakeBackend(error=GpuError(reason, "what NVML\nsaid"))
    finding = found(backend, config, root, IN_CLUSTER)["library"]
    assert (finding.level, finding.what) == (Level.FAIL, f"{reason}: what NVML said")
    assert todo in finding.todo


def test_device_nodes_that_may_not_be_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr("exporter.app.checks.os.open", refuse)
    finding = checks.device_nodes(root, {})
    assert finding.level is Level.FAIL
    assert finding.what == (
        "/dev/nvidia0: Operation not permitted; /dev/nvidiactl: Operation not permitted"
    )
    assert "run as root" in finding.todo


def test_no_gpu_is_visible() -> None:
    finding = checks.devices([], 8, {"NVIDIA_VISIBLE_DEVICES": "void"})
    assert finding == Finding(
        "GPUs",
        Level.FAIL,
        "the driver answers, but shows no GPU (the kernel has 8)",
        "set NVIDIA_VISIBLE_DEVICES=all, not 'void'",
    )


def test_a_gpu_is_missing() -> None:
    finding = checks.devices([H100] * 7, 8, {"NVIDIA_VISIBLE_DEVICES": "all"})
    assert (finding.level, finding.what) == (
        Level.WARN,
        "only 7 of 8: 7 x NVIDIA H100 80GB HBM3",
    )
    assert "Xid" in finding.todo


def test_mig_without_a_slice() -> None:
    finding = checks.mig([replace(H100, mig_enabled=True)], {})
    assert (finding.level, finding.what) == (
        Level.WARN,
        "no slice can be seen of these GPUs, which are in MIG mode: 0",
    )
    assert "NVIDIA_MIG_MONITOR_DEVICES=all" in finding.todo


@pytest.mark.parametrize(
    ("environment", "level"),
    [
        ({}, Level.OK),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, Level.INFO),
        ({"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_MIG_MONITOR_DEVICES": "all"}, Level.OK),
    ],
)
def test_mig_with_slices(environment: dict[str, str], level: Level) -> None:
    other = replace(SLICE, uuid="MIG-1", gpu_instance=2)
    gpu = replace(H100, mig_enabled=True, slices=(SLICE, other))
    finding = checks.mig([gpu], environment)
    assert finding.what == "GPUs in MIG mode: 1; slices: 2 x 1g.10gb"
    assert finding.level is level


def test_fields_that_may_not_be_read(root: Path, config: Config) -> None:
    failures = (
        FieldFailure("processes", Reason.NO_PERMISSION),
        FieldFailure("memory", Reason.NO_PERMISSION),
    )
    backend = FakeBackend([FakeReader(H100, failures=failures, activity=None)])
    findings = found(backend, config, root)
    assert findings["fields"] == Finding(
        "fields", Level.WARN, "no_permission: memory, processes", "run as root, with CAP_SYS_ADMIN"
    )
    assert findings["readings"].level is Level.OK
    assert findings["activity"].level is Level.INFO


def test_one_gpu_is_lost_and_one_hangs(root: Path, config: Config) -> None:
    hang = threading.Event()
    backend = FakeBackend(
        [
            FakeReader(H100),
            FakeReader(replace(H100, index=1), GpuError(Reason.GPU_LOST, "GPU is lost")),
            FakeReader(replace(H100, index=2), hang=hang),
        ]
    )
    start = time.monotonic()
    findings = found(backend, config, root, patience=0.3)
    hang.set()
    assert time.monotonic() - start < 2
    assert (findings["GPU 1"].level, findings["GPU 1"].what) == (
        Level.FAIL,
        "gpu_lost: GPU is lost",
    )
    assert (findings["GPU 2"].level, findings["GPU 2"].what) == (
        Level.FAIL,
        "hangs: no answer for 0.3s",
    )
    assert findings["readings"].what == "1 of 3 GPUs can be read"
    assert not backend.closed  # a call is still under way


def test_a_driver_that_hangs_does_not_hang_us(root: Path, config: Config) -> None:
    hang = threading.Event()

    class Hanging(FakeBackend):
        def open(self) -> Driver:
            hang.wait()
            return super().open()

    finding = found(Hanging(), config, root, patience=0.1)["library"]
    hang.set()
    assert (finding.level, finding.what) == (Level.FAIL, "hangs: no answer for 0.1s")


def test_a_driver_that_does_not_close_does_not_hang_us(root: Path, config: Config) -> None:
    hang = threading.Event()

    class Hanging(FakeBackend):
        def close(self) -> None:
            hang.wait()

    findings = found(Hanging([FakeReader(H100)]), config, root, patience=0.5)
    hang.set()
    assert findings["closing"].what == "hangs: no answer for 0.5s"
    assert findings["closing"].level is Level.FAIL
    assert "pods" in findings


def test_a_backend_that_is_broken(root: Path, config: Config) -> None:
    class Broken(FakeBackend):
        def readers(self) -> Sequence[FakeReader]:
            raise KeyError("nvmlDeviceGetCount")

    finding = found(Broken(), config, root)["GPUs"]
    assert (finding.level, finding.what) == (Level.FAIL, "KeyError: 'nvmlDeviceGetCount'")


def test_a_simulated_node_is_not_looked_for_in_the_kernel(tmp_path: Path, config: Config) -> None:
    findings = found(FakeBackend([FakeReader(H100)], name="simulated"), config, tmp_path)
    assert findings["backend"].what == "simulated: no figure is real"
    assert findings["pods"].what == "simulated as well"
    assert findings["kubelet"].what == "simulated as well"
    assert "driver" not in findings


# The kubelet.


def test_no_directory_of_the_socket(root: Path, config: Config) -> None:
    finding = checks.kubelet_socket(config, simulated=False)
    assert finding is not None
    assert finding.level is Level.WARN
    assert f"hostPath: {config.kubelet_socket.parent}" in finding.todo
    needed = checks.kubelet_socket(replace(config, kubelet="on"), simulated=False)
    assert needed is not None
    assert needed.level is Level.FAIL


def test_no_socket(config: Config) -> None:
    config.kubelet_socket.parent.mkdir()
    finding = checks.kubelet_socket(config, simulated=False)
    assert finding is not None
    assert finding.level is Level.FAIL
    assert finding.what == f"{config.kubelet_socket}: No such file or directory"


@pytest.fixture
def dead_socket(config: Config) -> Iterator[None]:
    """Leave a socket on which nobody listens."""
    config.kubelet_socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(config.kubelet_socket))
        yield


@pytest.mark.usefixtures("dead_socket")
def test_a_socket_that_refuses(root: Path, config: Config) -> None:
    finding = found(FakeBackend(), config, root)["kubelet"]
    assert finding.level is Level.FAIL
    assert str(config.kubelet_socket) in finding.what
    assert "\n" not in finding.what


def test_a_kubelet_that_answers() -> None:
    claims = Claims(
        held=(
            Claim(Container("a", "p", "c"), "nvidia.com/gpu", "GPU-0"),
            Claim(Container("a", "p", "c"), "nvidia.com/gpu", "GPU-1"),
        ),
        allocatable={"nvidia.com/gpu": ("GPU-0", "GPU-1")},
    )
    finding = checks.kubelet_claims(claims, ["nvidia.com/gpu"])
    assert finding == Finding(
        "kubelet", Level.OK, "answers: 2 devices are allocated to 1 containers"
    )


def test_a_kubelet_without_gpus() -> None:
    finding = checks.kubelet_claims(Claims(allocatable={}), ["nvidia.com/gpu", "a/*"])
    assert finding.level is Level.WARN
    assert finding.what == "answers, but advertises none of nvidia.com/gpu, a/*"
    old = checks.kubelet_claims(Claims(), ["nvidia.com/gpu"])
    assert old.level is Level.OK


# The pod.


def test_another_pid_namespace(tmp_path: Path) -> None:
    (tmp_path / "proc/self/ns").mkdir(parents=True)
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026532456]")
    finding = checks.pid_namespace(tmp_path)
    assert finding.level is Level.INFO
    assert "hostPID: true" in finding.todo


# What is printed, and the exit code.


def test_each_finding_is_printed_before_the_next_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def examine(*_args: object, **_more: object) -> Iterator[Finding]:
        yield Finding("driver", Level.OK, "kernel module 580")
        assert capsys.readouterr().out == "OK    driver        kernel module 580\n"
        yield Finding("device nodes", Level.FAIL, "there is none", "mount them")
        assert capsys.readouterr().out == (
            "FAIL  device nodes  there is none\n                    -> mount them\n"
        )
        yield Finding("MIG", Level.OK, "off")

    monkeypatch.setattr(doctor, "examine", examine)
    monkeypatch.setattr(doctor, "end_with_signal", lambda: None)
    assert doctor.doctor(Config(backend="simulated")) == 1
    assert capsys.readouterr().out == "OK    MIG           off\n\n2 ok, 1 fail\n"


@pytest.mark.parametrize(
    ("backend", "code"),
    [
        (FakeBackend([FakeReader(H100)], name="simulated"), 0),
        (FakeBackend(error=GpuError(Reason.DRIVER_NOT_LOADED, "gone"), name="simulated"), 1),
    ],
)
def test_the_exit_code_says_whether_something_is_missing(
    backend: FakeBackend,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "make_backend", lambda _config: backend)
    monkeypatch.setattr(doctor, "end_with_signal", lambda: None)
    assert doctor.doctor(Config(backend="simulated")) == code
    assert ("fail" in capsys.readouterr().out.splitlines()[-1]) == bool(code)
