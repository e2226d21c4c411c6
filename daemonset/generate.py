"""Every file of the chart that is made of something else."""

from pathlib import Path
from typing import Final

from daemonset.chart_files import values_schema, values_tables, values_yaml
from daemonset.rules_template import template
from dashboards import generate as dashboards

_ROOT: Final = Path(__file__).resolve().parent.parent
_CHART: Final = "daemonset/chart"
_BEGIN: Final = "<!-- values: generated from here -->\n"
_END: Final = "<!-- values: to here -->\n"


def generated() -> dict[str, bytes]:
    """Return each generated file's path from the repository's root, and its content."""
    return {
        f"{_CHART}/values.yaml": values_yaml().encode(),
        f"{_CHART}/values.schema.json": values_schema().encode(),
        f"{_CHART}/README.md": _readme().encode(),
        f"{_CHART}/templates/prometheusrule.yaml": template().encode(),
        **{
            f"{_CHART}/dashboards/{Path(path).name}": content
            for path, content in dashboards.generated().items()
            if path.endswith(".json")
        },
    }


def _readme() -> str:
    """Put the tables into the README that people write."""
    before, _, rest = (_ROOT / _CHART / "README.md").read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{values_tables()}\n{_END}{after}"
