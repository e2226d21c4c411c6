"""Whose process it is, by every form of its cgroup's path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.processes.cgroups import CgroupRef, parse

UID = "2c48913c-b29f-11e7-9350-020968147796"
UNDERSCORED = UID.replace("-", "_")
ID = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605"
OTHER_UID = "11111111-2222-4333-8444-555555555555"
OTHER = "f" * 64
STATIC = "8a4d2bb6ab1e1c5e9f3a7d6c5b4a3928"

POD = f"kubepods-burstable-pod{UNDERSCORED}.slice"
SYSTEMD = f"/kubepods.slice/kubepods-burstable.slice/{POD}"
GUARANTEED = f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice"
BEST_EFFORT = (
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice"
)
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice"

OURS = {
    "cgroupfs, burstable": f"/kubepods/burstable/pod{UID}/{ID}",
    "cgroupfs, best effort": f"/kubepods/besteffort/pod{UID}/{ID}",
    "cgroupfs, guaranteed": f"/kubepods/pod{UID}/{ID}",
    "cgroupfs, guaranteed, of old": f"/kubepods/guaranteed/pod{UID}/{ID}",
    "cgroupfs, cri-o": f"/kubepods/burstable/pod{UID}/crio-{ID}",
    "systemd, containerd": f"{SYSTEMD}/cri-containerd-{ID}.scope",
    "systemd, cri-o": f"{SYSTEMD}/crio-{ID}.scope",
    "systemd, docker": f"{SYSTEMD}/docker-{ID}.scope",
    "systemd, guaranteed": f"{GUARANTEED}/cri-containerd-{ID}.scope",
    "systemd, best effort": f"{BEST_EFFORT}/cri-containerd-{ID}.scope",
    "cri-o with crun": f"{SYSTEMD}/crio-{ID}.scope/container",
    "systemd within": f"{SYSTEMD}/cri-containerd-{ID}.scope/init.scope",
    "a service within": f"{SYSTEMD}/cri-containerd-{ID}.scope/system.slice/cuda.service",
    "docker within": f"/kubepods/burstable/pod{UID}/{ID}/docker/{OTHER}",
    "kind within": f"/kubepods/pod{UID}/{ID}/kubelet/kubepods/pod{OTHER_UID}/{OTHER}",
    "kind": f"/docker/{OTHER}/kubelet/kubepods/besteffort/pod{UID}/{ID}",
    "kind, systemd": f"{KIND}/kubelet-{POD}/cri-containerd-{ID}.scope",
    "kind in docker": f"/docker/{OTHER}{KIND}/kubelet-{POD}/cri-containerd-{ID}.scope",
    "minikube": f"/docker/{OTHER}/kubepods/burstable/pod{UID}/{ID}",
    "runtime set to cgroupfs": f"/system.slice/containerd.service/{POD}:cri-containerd:{ID}",
    "the same, by itself": f"/{POD}:cri-containerd:{ID}",
    "neighbour, systemd": f"/../../{POD}/cri-containerd-{ID}.scope",
    "neighbour, cgroupfs": f"/../../pod{UID}/{ID}",
    "neighbour of another class": f"/../../../besteffort/pod{UID}/{ID}",
    "neighbour above us": f"/../../../../kubepods/burstable/pod{UID}/{ID}",
    "ended": f"{SYSTEMD}/cri-containerd-{ID}.scope (deleted)",
}

NOBODYS = {
    "host": "/",
    "service": "/system.slice/docker.service",
    "session": "/user.slice/user-1000.slice/session-3.scope",
    "kubelet": "/system.slice/kubelet.service",
    "plain docker": f"/docker/{ID}",
    "plain docker, systemd": f"/system.slice/docker-{ID}.scope",
    "plain containerd": f"/default/{ID}",
    "podman": f"/machine.slice/libpod-{ID}.scope",
    "cri-o's monitor": f"{SYSTEMD}/crio-conmon-{ID}.scope",
    "cri-o's monitor, cgroupfs": f"/kubepods/burstable/pod{UID}/crio-conmon-{ID}",
    "pod alone": f"/kubepods/burstable/pod{UID}",
    "pod alone, systemd": SYSTEMD,
    "all pods": "/kubepods.slice",
    "a short id": f"/kubepods/burstable/pod{UID}/{ID[:12]}",
    "a long id": f"/kubepods/burstable/pod{UID}/{ID}0",
    "an id in capitals": f"/kubepods/burstable/pod{UID}/{ID.upper()}",
    "a broken uid": f"/kubepods/burstable/pod{UID[:-1]}/{ID}",
    "a scope without its end": f"{SYSTEMD}/cri-containerd-{ID}.scoped",
    "a pod that is in no kubepods": f"/burstable/pod{UID}/{ID}",
    "a name that ends alike": f"/notkubepods/burstable/pod{UID}/{ID}",
    "dots in the middle": f"/a/../pod{UID}/{ID}",
    "nothing": "",
}


@pytest.mark.parametrize("path", OURS.values(), ids=OURS)
def test_a_container_of_a_pod(path: str) -> None:
    assert parse(f"0::{path}\n") == CgroupRef(UID, ID)


@pytest.mark.parametrize("path", NOBODYS.values(), ids=NOBODYS)
def test_what_runs_in_no_container_of_a_pod(path: str) -> None:
    assert parse(f"0::{path}\n") is None


def test_a_static_pod_has_a_hash_for_uid() -> None:
    assert parse(f"0::/kubepods/burstable/pod{STATIC}/{ID}") == CgroupRef(STATIC, ID)


def test_of_the_many_lines_of_version_1_any_may_match() -> None:
    path = OURS["cgroupfs, burstable"]
    text = f"""\
12:pids:{path}
11:cpu,cpuacct:{path}
1:name=systemd:{path}
0::/system.slice/containerd.service
"""
    assert parse(text) == CgroupRef(UID, ID)
    reversed_lines = "\n".join(reversed(text.splitlines()))
    assert parse(reversed_lines) == CgroupRef(UID, ID)
    assert parse(f"1:name=systemd:/\n0::{path}") == CgroupRef(UID, ID)


@given(st.text())
def test_any_text_is_read_without_trouble(text: str) -> None:
    assert parse(text) is None


@given(
    st.lists(
        st.sampled_from(
            [*OURS.values(), "/", "..", "kubepods", f"pod{UID}", ID, ".scope", ":", "\n", "0::"]
        ),
        max_size=8,
    ).map("".join)
)
def test_whatever_is_found_is_whole(text: str) -> None:
    found = parse(text)
    assert found is None or (
        found.pod_uid in {UID, OTHER_UID} and found.container_id in {ID, OTHER}
    )
