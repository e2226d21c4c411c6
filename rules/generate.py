"""The generated files of the rules: rule files, the PrometheusRule, and the list of alerts."""

from dataclasses import replace

from rules import reference, render
from rules.settings import defaults

_FOLDER = "rules/generated"


def generated() -> dict[str, bytes]:
    """Give each file's path from the repository's root, and what it should hold."""
    settings = defaults()
    extra = replace(settings, values={**settings.values, "groups.dcgm.enabled": True})
    files = render.rule_files(settings).items()
    return {
        **{f"{_FOLDER}/prometheus/{name}": file for name, file in files},
        # Whoever loads the folder of the others must not get this one.
        f"{_FOLDER}/extra/dcgm.yaml": render.rule_files(extra)["dcgm.yaml"],
        f"{_FOLDER}/prometheusrule.yaml": render.prometheus_rule(settings),
        "docs/alerts.md": reference.render().encode(),
    }
