"""Write every generated file, or with ``--check`` say which are out of date and fail."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from daemonset import generate as daemonset
from dashboards import generate as dashboards
from exporter.config import reference as configuration
from exporter.gpus.simulated import reference as simulated_node
from exporter.metrics import reference as metrics
from rules import generate as rules
from setup import identity, stubs

ROOT = Path(__file__).resolve().parent.parent


def generated() -> dict[Path, bytes]:
    """Return each generated file's path and what it should hold."""
    return {
        ROOT / "docs/metrics.md": metrics.render().encode(),
        ROOT / "docs/configuration.md": configuration.render().encode(),
        ROOT / "docs/simulated-node.md": simulated_node.render().encode(),
        **{ROOT / path: content for path, content in daemonset.generated().items()},
        **{ROOT / path: content for path, content in dashboards.generated().items()},
        **{ROOT / path: content for path, content in rules.generated().items()},
        **stubs.generate(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    # First the files that people write: one of them holds generated tables.
    stale = _brought_up(identity.replaced(ROOT), check=check)
    stale |= _brought_up(generated(), check=check)
    return 1 if check and stale else 0


def _brought_up(files: Mapping[Path, bytes], *, check: bool) -> bool:
    """Write those that differ, or only name them; return whether there were any."""
    stale = {
        path: content
        for path, content in files.items()
        if not path.exists() or path.read_bytes() != content
    }
    for path, content in stale.items():
        sys.stdout.write(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return bool(stale)


if __name__ == "__main__":
    raise SystemExit(main())
