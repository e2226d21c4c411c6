"""``make test-cluster``: brings what a cluster needs, makes its namespaces, runs the tests there.

Whatever happens, the cluster ends with this process: see :mod:`tests.cluster.machine.inside`.
What an earlier run left on disk, if it was killed, goes first.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.cluster.machine import images, nodes, places, programs

_NAMESPACES: Final = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_GONE_SECONDS: Final = 60.0


def main(arguments: Sequence[str]) -> int:
    programs.prepare()
    places.kept().mkdir(parents=True, exist_ok=True)
    with Path(places.kept(), "cluster.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another make test-cluster runs on this machine") from None
        images.prepare()
        clean()
        places.WORK.mkdir(mode=0o755)
        (places.WORK / "launcher").write_text(str(os.getpid()))
        command = ["unshare", *_NAMESPACES, sys.executable, "-m", "tests.cluster.machine.inside"]
        try:
            with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE) as process:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    # The tests were interrupted as well, and end by themselves.
                    return process.wait()
        finally:
            clean()


def clean() -> None:
    """Remove what a cluster has left. Its processes are gone, or about to be."""
    last = time.monotonic() + _GONE_SECONDS
    while True:
        try:
            nodes.remove_cgroups()
            if places.WORK.exists():
                shutil.rmtree(places.WORK)
        except OSError:
            if time.monotonic() > last:
                raise
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
