"""Install what a file of locked requirements names into this Python's environment.

``python -m setup.packages FILE [--editable]``; the latter installs the project itself as well.
"""

import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from setup import step

_PIP: Final = (
    *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install"),
    # Python compiles what it imports when it first does; most of what is installed it never does.
    "--no-compile",
)
_PIN: Final = re.compile(r"^([A-Za-z0-9][-.\w]*)==", re.MULTILINE)
_TAKEN: Final = re.compile(r"(?:Collecting|Requirement already satisfied:) ([-.\w]+)")


def counted(total: int) -> Callable[[str], str | None]:
    """Return what makes a line of pip's output "12/33 grpcio"."""
    seen: dict[str, None] = {}

    def progress(line: str) -> str | None:
        if line.startswith("Installing collected packages"):
            return "all there, unpacking"
        if line.startswith("WARNING: Retrying"):
            return "no answer from the package index, trying again"
        if not (found := _TAKEN.match(line)):
            return None
        seen.setdefault(found[1].lower())
        return f"{len(seen)}/{total} {found[1]}"

    return progress


def main(arguments: Sequence[str]) -> int:
    file, *options = arguments
    total = len(_PIN.findall(Path(file).read_text()))
    began = time.monotonic()
    try:
        step.run(
            f"installing {total} packages of {file}",
            [*_PIP, "--require-hashes", "-r", file],
            progress=counted(total),
        )
        if "--editable" in options:
            step.run(
                "installing kube-gpu-exporter itself",
                [*_PIP, "--no-deps", "--no-build-isolation", "--editable", "."],
            )
    except step.StepError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{sys.prefix} is ready, after {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
