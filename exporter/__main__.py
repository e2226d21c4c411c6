"""``python -m exporter`` and ``kube-gpu-exporter``."""

# Before anything else is loaded, which takes a while: see obey().
import os
import signal
import sys
import threading


def main() -> int:
    """Run the program, and return its exit code."""
    obey()
    from exporter.app.cli import main as run  # noqa: PLC0415

    code = run()
    leave_stuck_threads(code)
    return code


def obey() -> None:
    """End on SIGTERM and SIGINT from now on; nothing has been started yet that has to be stopped.

    The kernel drops a signal to PID 1 that has no handler. Without this, a pod that is deleted
    while its container starts would be killed after its grace period. Later, each command sets
    handlers of its own.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))


def leave_stuck_threads(code: int) -> None:
    """Exit at once if a thread would hold the exit, as one does that looks up a name for ever.

    Such threads are asyncio's own, and the interpreter waits for them.
    """
    others = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    if any(not thread.daemon for thread in others):
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
