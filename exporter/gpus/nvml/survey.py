"""A look at the GPUs from a process of its own: what a new session with the driver would show.

NVML lists GPUs as they were when its session began. Whether a new session shows more can only be
found out by opening one, and that may hang or crash. So a short-lived process opens it:
``python -m exporter.gpus.nvml.survey`` prints the UUIDs of the GPUs that can be read.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence

from exporter.gpus import GpuError
from exporter.gpus.nvml.bounds import counted
from exporter.gpus.nvml.library import UNREADABLE, CallError, Library, nvml
from exporter.model.readings import Reason

DEADLINE_SECONDS = 20.0
"""Opening takes 13 ms, and Python a fraction of a second; a node that is busy takes longer."""

COMMAND = (sys.executable, "-P", "-m", "exporter.gpus.nvml.survey")


class Surveys:
    """Runs surveys, one at a time. ``command`` is what runs one."""

    def __init__(
        self, command: Sequence[str] = COMMAND, deadline: float = DEADLINE_SECONDS
    ) -> None:
        self._command = command
        self._deadline = deadline
        self._last: subprocess.Popen[bytes] | None = None

    def run(self) -> frozenset[str]:
        """Return the UUIDs of the GPUs that can be read. Raises :class:`GpuError`.

        A survey that hangs is killed. One that can't even be killed hangs in the driver, and then
        there is none until it has ended.
        """
        if self._last is not None and self._last.poll() is None:
            raise GpuError(Reason.TIMEOUT, "the last survey hangs in the driver")
        try:
            process = subprocess.Popen(  # noqa: S603  our own module
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise GpuError(Reason.UNKNOWN, f"no survey can be started: {error}") from error
        self._last = process
        try:
            output, _ = process.communicate(timeout=self._deadline)
        except subprocess.TimeoutExpired as error:
            process.kill()
            if process.stdout is not None:
                process.stdout.close()
            raise GpuError(
                Reason.TIMEOUT, f"a survey has not ended in {self._deadline:g} s"
            ) from error
        if process.returncode != 0:
            raise GpuError(Reason.UNKNOWN, f"a survey ended with {process.returncode}")
        return frozenset(json.loads(output))


def main() -> None:
    """Print the UUIDs as a JSON list. Ends with 1 when the driver can't be opened."""
    signal.alarm(round(DEADLINE_SECONDS))  # whoever asked may be gone
    try:
        Library().load()
        count = counted("number of GPUs", nvml.nvmlDeviceGetCount())
    except (GpuError, CallError) as error:
        sys.exit(str(error))
    readable = filter(None, map(_uuid, range(count)))
    sys.stdout.write(json.dumps(sorted(readable)))


def _uuid(index: int) -> str | None:
    """Return the UUID of a GPU; ``None`` if it can't be read."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = str(nvml.nvmlDeviceGetUUID(handle))
        # A GPU that is lost refuses what asks the board itself.
        nvml.nvmlDeviceGetPowerUsage(handle)
    except CallError as error:
        if error.reason is not Reason.NOT_SUPPORTED:
            return None
    return None if UNREADABLE in uuid else uuid


if __name__ == "__main__":
    main()
