"""A container as the rendered DaemonSet would run it, made by bubblewrap instead of a cluster.

Its command, arguments, environment, user, mounts, root and capabilities are those of the rendered
object and of the Dockerfile. The program is this checkout's, and the image's root this system's,
read-only. Namespaces of network and PIDs are its own, so that its port never collides with another.
What is not here: the seccomp profile, which is the container runtime's own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.daemonset.render import ROOT, Object, find

NODE: Final = "node-7"
DOCKERFILE: Final = ROOT / "daemonset" / "Dockerfile"
TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105  (where one would be)
_PATIENCE_SECONDS: Final = 20.0
_NAMESPACES: Final = (
    "--unshare-pid",
    "--as-pid-1",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
)
_ASK: Final = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"""


def needs_bubblewrap() -> None:
    """Skip the test, and say why, where containers can't be made."""
    if not shutil.which("bwrap"):
        pytest.skip("there is no bwrap here: install bubblewrap")
    tried = subprocess.run(
        ["bwrap", "--ro-bind", "/", "/", *_NAMESPACES, "true"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if os.geteuid() or tried.returncode:
        pytest.skip(f"bwrap may not make namespaces here: {tried.stderr.strip() or 'not root'}")


class Contained:
    """A running container."""

    def __init__(self, process: subprocess.Popen[str], port: int, pid: int) -> None:
        self._process = process
        self._port = port
        self.pid = pid

    def get(self, path: str) -> tuple[int, str]:
        """Ask for a page, from within the container's network."""
        url = f"http://127.0.0.1:{self._port}{path}"
        done = subprocess.run(
            ["nsenter", "--net", "--target", str(self.pid), sys.executable, "-c", _ASK, url],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        status, _, text = done.stdout.partition("\n")
        return int(status or 0), text

    def series(self, name: str, **labels: str) -> float | None:
        """Return the value of the only series of that name with those labels."""
        values = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(values) <= 1, values
        return values[0] if values else None

    def status(self) -> Mapping[str, str]:
        """Return what the kernel says of the process, by the names of proc_pid_status(5)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def mounts(self) -> Mapping[str, set[str]]:
        """Return the options of each mount, by where it is."""
        lines = Path(f"/proc/{self.pid}/mountinfo").read_text().splitlines()
        return {fields[4]: set(fields[5].split(",")) for fields in map(str.split, lines)}

    def until(self, condition: Callable[[], bool]) -> None:
        begun = time.monotonic()
        while not condition():
            assert self._process.poll() is None, self.ended()
            assert time.monotonic() - begun < _PATIENCE_SECONDS, self.get("/metrics")
            time.sleep(0.05)

    def terminate(self) -> int:
        """Send what the kubelet sends first; return the exit code."""
        os.kill(self.pid, 15)
        return self._process.wait(_PATIENCE_SECONDS)

    def ended(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read()


@contextmanager
def contained(objects: Sequence[Object], host: Path, **more: str) -> Iterator[Contained]:
    """Run the only container of the DaemonSet until the block ends.

    ``host`` stands for the node's root, in which host paths are looked for. ``more`` is environment
    that the DaemonSet does not give.
    """
    pod = find(objects, "DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ready, child_end = os.pipe()
    environment = _environment(pod, container) | more
    command = [
        *("bwrap", "--die-with-parent", *_NAMESPACES, "--info-fd", str(child_end)),
        *_mounts(pod, container, host),
        *_security(container["securityContext"]),
        "--clearenv",
        *(part for name, value in environment.items() for part in ("--setenv", name, value)),
        *(_entrypoint(), *container["args"]),
    ]
    (port,) = (port["containerPort"] for port in container["ports"])
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, pass_fds=[child_end]
    ) as process:
        os.close(child_end)
        with os.fdopen(ready) as information:
            text = information.read()
        assert text, process.communicate()[1]
        try:
            yield Contained(process, port, json.loads(text)["child-pid"])
        finally:
            process.kill()


def _mounts(pod: Any, container: Any, host: Path) -> Iterator[str]:
    """Give the read-only root, and in it what the pod mounts."""
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    yield from ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    sources = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"]}
    wanted = {
        mount["mountPath"]: (mount["readOnly"], host / sources[mount["name"]].lstrip("/"))
        for mount in container["volumeMounts"]
    }
    if pod["automountServiceAccountToken"]:
        wanted[TOKEN] = (True, host / "token")
    # The places may not be there, and can't be made on a read-only root.
    covered = sorted({f"/{'/'.join(place.split('/')[1:3])}" for place in wanted})
    for folder in covered:
        yield from ("--tmpfs", os.path.realpath(folder))
    for place, (read_only, source) in wanted.items():
        top, below = place.split("/")[1:3], place.split("/")[3:]
        target = "/".join([os.path.realpath("/" + "/".join(top)), *below])
        yield from ("--ro-bind" if read_only else "--bind", str(source), target)
    for folder in covered:
        yield from ("--remount-ro", os.path.realpath(folder))


def _security(context: Any) -> Iterator[str]:
    assert (context["runAsUser"], context["runAsGroup"]) == (0, 0)
    assert context["allowPrivilegeEscalation"] is False  # bubblewrap always sees to it
    for capability in context["capabilities"]["drop"]:
        yield from ("--cap-drop", capability)


def _environment(pod: Any, container: Any) -> dict[str, str]:
    """Return the image's variables, the kubelet's, and the container's."""
    text = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    (image,) = re.findall(r"^ENV (.+)$", text, re.MULTILINE)
    made = dict(pair.split("=", 1) for pair in image.split())
    if pod["automountServiceAccountToken"]:
        made |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    fields = {"spec.nodeName": NODE}
    for variable in container["env"]:
        value = variable.get("value") or fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        made[variable["name"]] = value
    return made


def _entrypoint() -> str:
    """Return the image's program as it is here; it lies elsewhere in the image."""
    (line,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    (name,) = json.loads(line)
    return str(Path(sys.executable).with_name(name))
