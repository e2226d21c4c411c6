"""``python -m tests.fuzz``: each target with a million inputs, and a table of how it went."""

import sys
import time

import click

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import TARGETS


@click.command()
@click.option("--inputs", default=1_000_000, show_default=True, help="For each target, at least.")
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
def main(inputs: int, names: tuple[str, ...]) -> None:
    """Fuzz parsers of foreign input: all of them, or those of some names."""
    click.echo(f"{'target':<22} {'inputs':>10} {'inputs/s':>9} {'slowest':>9}")
    for name in names or TARGETS:
        begun = time.monotonic()
        figures = fuzz(name, inputs, quick=False)
        rate = figures.inputs / (time.monotonic() - begun)
        slowest = f"{figures.slowest_seconds * 1000:.0f} ms"
        click.echo(f"{name:<22} {figures.inputs:>10} {rate:>9.0f} {slowest:>9}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
