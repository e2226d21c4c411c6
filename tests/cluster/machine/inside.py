"""The first process in the cluster's namespaces: runs the tests, and reaps what nobody waits for.

With its end the kernel ends everything else in the namespace of processes, and so the mounts and
the network. It ends when its standard input is closed, as it is when the launcher was killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from tests.cluster.machine import places


def main(arguments: Sequence[str]) -> int:
    # A terminal's interrupt goes to every process; the tests are to end by themselves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    tests = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], stdin=subprocess.DEVNULL)
    code = _reap_until(tests.pid)
    if os.environ.get("KEEP"):
        _say_how_to_look()
        signal.signal(signal.SIGINT, lambda *_: os._exit(code))
        _reap_until(-1)
    return code


def _reap_until(wanted: int) -> int:
    """Reap every child until ``wanted`` ends; return how."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            signal.pause()
            continue
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def _end_with_launcher() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


def _say_how_to_look() -> None:
    script = places.WORK / "enter"
    outside = (places.WORK / "launcher").read_text()
    script.write_text(
        "#!/bin/sh\n"
        "# usage: enter COMMAND...   in the cluster's namespaces, with its kubeconfig\n"
        f"pid=$(cat /proc/{outside}/task/{outside}/children | tr ' ' '\\n' | head -n 1)\n"
        "first=$(cat /proc/$pid/task/$pid/children | tr -d ' ')\n"
        f"export KUBECONFIG={places.KUBECONFIG}\n"
        'exec nsenter --target="$first" --net --mount --pid --wd="$PWD" "$@"\n'
    )
    script.chmod(0o755)
    sys.stdout.write(
        f"The cluster stays until Ctrl-C. Its kubeconfig is {places.KUBECONFIG}; its network is its"
        f" own, so look with\n  {script} kubectl get pods -A\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
