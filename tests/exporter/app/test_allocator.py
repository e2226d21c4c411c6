"""Memory that was needed for a moment goes back to the system."""

import subprocess
import sys

import pytest

BLOCKS = """
import sys
from exporter.app.allocator import return_large_blocks

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "yes":
    assert return_large_blocks()
kept = []
before = resident()
for _ in range(8):
    block = bytearray(20_000_000)
    kept.append(bytearray(100_000))  # something small that lies behind it
    del block
print(resident() - before)
"""


@pytest.mark.parametrize(("used", "returns"), [("yes", True), ("no", False)])
def test_blocks_of_the_size_of_a_kubelets_answer_are_not_kept(used: str, returns: bool) -> None:  # noqa: FBT001
    """Without the option they are kept: the option is needed, and works."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, used], check=True, capture_output=True, text=True
    )
    assert (int(done.stdout) < 5_000_000) is returns
