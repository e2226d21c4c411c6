"""``docs/metrics.md``, from the table."""

from typing import Final

from exporter.metrics.family import Family
from exporter.metrics.profiles import COMMON, profile_of
from exporter.metrics.table import SUBJECTS

_HEAD: Final = """\
# Metrics

Generated from the table in `exporter/metrics/` by `make update`; a test holds it to that.

Every series also has the label `node` when the exporter knows its node's name. Values are in base
units, and ratios run from 0 to 1. If the hardware, the driver or the exporter's permissions do not
give a value, its series is absent: it is never 0 instead, and never the last good value. Whole
GPUs, MIG slices and containers have families of their own, so that a sum over a family counts
nothing twice. The exporter also serves prometheus_client's `process_*` metrics about itself.

The column *profile* names the smallest profile that has the family: `minimal`, `standard` or
`full`. The option `--metrics` picks a profile, adds families and takes families away. Of some
families `standard` has a few values of the last label only; `full` has all of them.
"""


def render() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for subject, families in SUBJECTS.items():
        parts.append(
            f"\n## {subject}\n\n| metric | type | profile | labels | meaning |\n"
            "| --- | --- | --- | --- | --- |\n"
        )
        parts.extend(_row(family) for family in families)
    return "".join(parts)


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    profile = str(profile_of(family))
    if common := COMMON.get(family.name):
        values = ", ".join(f"`{value}`" for value in sorted(common))
        profile += f", only {family.labels[-1]} {values}"
    return f"| `{family.name}` | {family.kind} | {profile} | {labels} | {family.help} |\n"
