"""Rules as YAML that people can read."""

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, and lists indented under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  (PyYAML's signature)
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def dump(value: Any) -> str:
    """Write ``value`` in the order of its keys, without folding long lines."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True, indent=2
    )
