"""The generated files of the rules: rule files, the PrometheusRule, and the list of alerts."""

from dataclasses import replace

from rules import reference, render
from rules.settings import defaults

_FOLDER = "rules/generated"
_EXTRA = ("dcgm", "reports")
"""Files of groups that are off by default: whoever loads the folder must not get them."""


def generated() -> dict[str, bytes]:
    """Give each file's path from the repository's root, and what it should hold."""
    settings = defaults()
    on = {f"groups.{name}.enabled": True for name in _EXTRA}
    extra = render.rule_files(replace(settings, values={**settings.values, **on}))
    files = render.rule_files(settings).items()
    return {
        **{f"{_FOLDER}/prometheus/{name}": file for name, file in files},
        **{f"{_FOLDER}/extra/{name}.yaml": extra[f"{name}.yaml"] for name in _EXTRA},
        f"{_FOLDER}/prometheusrule.yaml": render.prometheus_rule(settings),
        "docs/alerts.md": reference.render().encode(),
    }
