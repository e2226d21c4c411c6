"""Render the rules with settings of one's own."""

import argparse
import sys
from pathlib import Path

from exporter.document import DocumentError
from rules import render
from rules.settings import defaults
from rules.settings_file import read_settings


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m rules", description=__doc__)
    parser.add_argument("--settings", type=Path, help="YAML file: see docs/alerts.md")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--format",
        choices=("files", "prometheusrule"),
        default="files",
        help="rule files for Prometheus, or one object for its operator",
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, help="shrink all durations, to try the rules out"
    )
    options = parser.parse_args()
    try:
        settings = read_settings(options.settings) if options.settings else defaults()
        if options.format == "files":
            files = render.rule_files(settings, options.scale)
        else:
            files = {"prometheusrule.yaml": render.prometheus_rule(settings, options.scale)}
        options.out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (options.out / name).write_bytes(content)
    except DocumentError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{options.out}: cannot be written: {error.strerror}\n")
        return 2
    return 0


def _scale(text: str) -> float:
    scale = float(text)
    if not 1 <= scale <= 10_000:
        raise argparse.ArgumentTypeError("not from 1 to 10000")
    return scale


if __name__ == "__main__":
    raise SystemExit(main())
