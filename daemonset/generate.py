"""Every file of the chart that is made of something else."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from daemonset.alerting import JOB
from daemonset.chart_files import values_schema, values_tables, values_yaml
from dashboards import generate as dashboards
from rules import build

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
        f"{_CHART}/files/rules.json": rules_json().encode(),
        **{
            f"{_CHART}/dashboards/{Path(path).name}": content
            for path, content in dashboards.generated().items()
            if path.endswith(".json")
        },
    }


def rules_json() -> str:
    """Write the rules with ``${path}`` where ``templates/prometheusrule.yaml`` puts values."""
    document = {
        "groups": [asdict(group) for group in build.groups()],
        "optional": build.OPTIONAL,
        "price": build.price("${model}", "${price}"),
        "job": JOB.default,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _readme() -> str:
    """Put the tables into the README that people write."""
    before, _, rest = (_ROOT / _CHART / "README.md").read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{values_tables()}\n{_END}{after}"
