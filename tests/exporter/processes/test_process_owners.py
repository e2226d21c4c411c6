"""The containers of processes, over a /proc that the test writes."""

import os
from pathlib import Path

import pytest

from exporter.processes.cgroups import CgroupRef
from exporter.processes.owners import ProcessOwners

UID = "2c48913c-b29f-11e7-9350-020968147796"
ONE = CgroupRef(UID, "1" * 64)
TWO = CgroupRef(UID, "2" * 64)
HOST = "pid:[4026531836]"


class Proc:
    def __init__(self, root: Path, namespace: str = HOST) -> None:
        self.root = root
        (root / "self/ns").mkdir(parents=True)
        (root / "self/ns/pid").symlink_to(namespace)
        self.owners = ProcessOwners(root)

    def run(self, pid: int, ref: CgroupRef | None, started: int = 100) -> None:
        path = f"/kubepods/pod{ref.pod_uid}/{ref.container_id}" if ref else "/init.scope"
        place = self.root / str(pid)
        place.mkdir(exist_ok=True)
        (place / "cgroup").write_text(f"0::{path}\n")
        fields = " ".join(map(str, [*range(4, 22), started, *range(23, 53)]))
        (place / "stat").write_text(f"{pid} (a) name (0 1 2 3) S {fields}\n")

    def end(self, pid: int) -> None:
        for file in (self.root / str(pid)).iterdir():
            file.unlink()

    def owner(self, pid: int) -> CgroupRef | None:
        return self.owners.owners([pid])[pid]


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_processes_of_pods_and_others(proc: Proc) -> None:
    proc.run(10, ONE)
    proc.run(11, None)
    assert proc.owners.owners([10, 11, 12]) == {10: ONE, 11: None, 12: None}


def test_an_owner_is_read_once_per_process(proc: Proc) -> None:
    proc.run(10, ONE)
    assert proc.owner(10) == ONE
    (proc.root / "10/cgroup").unlink()
    assert proc.owner(10) == ONE


def test_a_pid_that_is_used_again_has_a_new_owner(proc: Proc) -> None:
    proc.run(10, ONE)
    assert proc.owner(10) == ONE
    proc.run(10, TWO, started=200)
    assert proc.owner(10) == TWO


def test_what_has_ended_keeps_its_owner_until_others_fill_its_place(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.processes.owners._MOST_KEPT", 2)
    proc.run(10, ONE)
    proc.run(11, TWO)
    proc.owners.owners([10, 11])
    proc.end(10)
    assert proc.owner(10) == ONE
    proc.run(12, TWO)
    proc.owners.owners([11, 12])
    assert proc.owner(10) is None


def test_no_call_takes_long(proc: Proc) -> None:
    assert len(proc.owners.owners(range(1, 100_000))) == 512


def test_the_hosts_pids(proc: Proc) -> None:
    assert proc.owners.sees_host()
    health = proc.owners.health()
    assert (health.name, health.up, health.message) == ("processes", True, "")


def test_pids_of_a_pod_s_own(tmp_path: Path) -> None:
    for n, owners in enumerate(
        (Proc(tmp_path, "pid:[4026532999]").owners, ProcessOwners(tmp_path / "none"))
    ):
        assert not owners.sees_host(), n
        health = owners.health()
        assert not health.up
        assert "hostPID" in health.message


def test_trouble_is_counted_and_is_no_owner(proc: Proc) -> None:
    proc.run(10, ONE)
    (proc.root / "10/stat").write_text("10 (broken")
    assert proc.owners.owners([10]) == {}
    (proc.root / "10/stat").unlink()
    (proc.root / "10/stat").mkdir()
    assert proc.owners.owners([10]) == {}
    assert proc.owners.health().failures == {"no_permission": 0, "unknown": 2}


def test_what_may_not_be_read_is_counted(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise PermissionError

    proc.run(10, ONE)
    monkeypatch.setattr(Path, "read_text", refuse)
    assert proc.owners.owners([10]) == {}  # not "in no pod"
    assert proc.owners.health().failures == {"no_permission": 1, "unknown": 0}


def test_what_may_not_be_read_is_bad_health_for_a_while(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc.run(10, ONE)
    now = 100.0
    owners = ProcessOwners(proc.root, lambda: now)

    def refuse(path: Path, *_: object) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", refuse)
        owners.owners([10])
    health = owners.health()
    assert not health.up
    assert "10/stat" in health.message
    now += 60.0
    assert owners.owners([10]) == {10: ONE}
    assert (owners.health().up, owners.health().message) == (True, "")


def test_this_machine_s_own_proc() -> None:
    owners = ProcessOwners()
    assert owners.owners([os.getpid()]).keys() == {os.getpid()}
    assert sum(owners.health().failures.values()) == 0
