"""Commands as the pages on installing have them, to be run as they are."""

import re
from pathlib import Path
from typing import Final

from exporter import REGISTRY
from tests.cluster.machine import places

PAGE: Final = places.ROOT / "docs" / "install.md"


def blocks(heading: str, language: str = "sh", page: Path = PAGE) -> list[str]:
    """Return the blocks of code below a heading of a page, up to the next of its rank."""
    rank = heading.partition(" ")[0]
    text = page.read_text()
    assert text.count(f"\n{heading}\n") == 1, heading
    below = text.partition(f"\n{heading}\n")[2]
    section = re.split(rf"^#{{1,{len(rank)}}} ", below, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def here(script: str) -> str:
    """Have a page's script take what is on this machine in place of what is the reader's.

    The image was loaded and has no registry, and of the examples the one is taken that simulates
    GPUs. A rollout that does not end is to be a failure.
    """
    return (
        script.replace("REGISTRY/", f"{REGISTRY}/")
        .replace("examples/gpu-operator.yaml", "examples/simulated.yaml")
        .replace("rollout status ", "rollout status --timeout=180s ")
    )
