"""The chart's template of the PrometheusRule: the rules, with Helm's actions for the settings.

It is plain Helm. Each alert stands in a ``with`` of its own values, so that ``.window`` is the
alert's window and ``$rules.grace`` is a general setting.
"""

import textwrap
from collections.abc import Iterator
from typing import Any, Final

from daemonset.alerting import JOB
from rules.build import OPTIONAL, Fields, Group, Rule, groups, price
from rules.place import fill, names
from rules.setting import Kind
from rules.settings import GENERAL, table
from rules.yaml_text import dump

_HEAD: Final = f"""\
{{{{- /* Generated from rules/ by daemonset/rules_template.py. Change the rules instead. */ -}}}}
{{{{- if .Values.prometheusRule.enabled }}}}
{{{{- $name := include "kube-gpu-exporter.name" . }}}}
{{{{- $job := printf ".*%s.*" $name }}}}
{{{{- if regexMatch "^({JOB.default})$" $name }}}}
{{{{- $job = "{JOB.default}" }}}}
{{{{- end }}}}
{{{{- $job = .Values.prometheusRule.job | default $job }}}}
{{{{- $rules := merge (dict "job" $job) .Values.prometheusRule }}}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  {{{{- include "kube-gpu-exporter.metadata" . | nindent 2 }}}}
    {{{{- with $rules.labels }}}}
    {{{{- toYaml . | nindent 4 }}}}
    {{{{- end }}}}
spec:
  groups:
"""
_NUMBERS: Final = (Kind.SECONDS, Kind.RATIO, Kind.NUMBER, Kind.BYTES, Kind.CELSIUS)
_OPEN: Final = '{{ "{{" }}'
"""What Helm writes as two braces, which Prometheus' own templates begin with."""


def template() -> str:
    """Write ``templates/prometheusrule.yaml``."""
    return f"{_HEAD}{''.join(map(_group, groups()))}{{{{- end }}}}\n"


def _group(group: Group) -> str:
    head = f"- name: {group.name}\n"
    if group.interval:
        head += f"  interval: {group.interval}\n"
    body = f"{head}  rules:\n{_indented(''.join(_rules(group)), 4)}"
    if group.switch is None:
        return _indented(body, 4)
    return f"{{{{- if {_any_rule(group)} }}}}\n{_indented(body, 4)}{{{{- end }}}}\n"


def _any_rule(group: Group) -> str:
    """Give the condition that a group is on and has rules: Prometheus takes no empty group."""
    on = f"$rules.{group.switch}"
    switches = [f"$rules.{rule.switch}" for rule in group.rules if rule.switch]
    return f"and {on} (or {' '.join(switches)})" if switches else on


def _rules(group: Group) -> Iterator[str]:
    if group.priced:
        priced = price("⟦model⟧", "⟦price⟧")
        text = _escaped(dump([priced])).replace("⟦model⟧", "{{ $model | quote }}")
        text = text.replace("⟦price⟧", '{{ printf "%.15g" (float64 $price) }}')
        yield f"{{{{- range $model, $price := $rules.prices }}}}\n{text}{{{{- end }}}}\n"
    for rule in group.rules:
        text = _rule(rule)
        if rule.alert:
            text = (
                f"{{{{- with $rules.alerts.{rule.alert.name} }}}}\n{{{{- if .enabled }}}}\n{text}"
                "{{- end }}\n{{- end }}\n"
            )
        yield text


def _rule(rule: Rule) -> str:
    """Write one rule as YAML, with actions in the places of the settings."""
    lines: list[str] = []
    for line in _escaped(dump([_marked(rule.fields)])).splitlines():
        key = line.strip(" -").partition(":")[0]
        filled = fill(line, lambda name: _action(rule, name))
        if key in OPTIONAL:
            first = _value(rule, names(line)[0])
            filled = f'{{{{- if ne {first} "{OPTIONAL[key]}" }}}}\n{filled}\n{{{{- end }}}}'
        lines.append(f"{filled}\n")
    return "".join(lines)


def _marked(fields: Fields) -> dict[str, Any]:
    return {key: text if isinstance(text, str) else _marked(text) for key, text in fields.items()}


def _escaped(text: str) -> str:
    return text.replace("{{", _OPEN)


def _value(rule: Rule, name: str) -> str:
    return f"$rules.{name}" if rule.path(name) in GENERAL else f".{name}"


def _action(rule: Rule, name: str) -> str:
    kind, value = table()[rule.path(name)].kind, _value(rule, name)
    if kind in _NUMBERS:
        return f'{{{{ printf "%.15g" (float64 {value}) }}}}'
    if kind is Kind.NAMES:
        return f'{{{{ join "|" {value} }}}}'
    return f"{{{{ {value} }}}}"


def _indented(text: str, spaces: int) -> str:
    """Indent what is not an action that stands on a line of its own."""

    def is_text(line: str) -> bool:
        return bool(line.strip()) and not line.startswith("{{-")

    return textwrap.indent(text, " " * spaces, is_text)
