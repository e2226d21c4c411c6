"""``docs/configuration.md``, from the declared options."""

import textwrap
from collections.abc import Iterator
from itertools import groupby

from exporter.config.options import OPTIONS, ORDERED, TOGETHER, Option
from exporter.config.values import Duration

_INTRODUCTION = """\
# Configuration

Every option is a flag, an environment variable and a key of a YAML file. The first of these that
gives a value wins:

1. the flag,
2. the environment variable,
3. the file that `--config` or `GPU_EXPORTER_CONFIG` names,
4. the default.

An empty environment variable and an empty key in the file count as not given. The file's values
mean what they would mean in a flag: `kubelet: on` needs no quotes.

Durations are written as in Prometheus: whole numbers with the units `y`, `w`, `d`, `h`, `m`, `s`
and `ms`, each at most once and the largest first, such as `500ms`, `5s` or `1h30m`. A number
without a unit is seconds, and may have up to three decimals. Scenarios, the settings of the rules
and the chart's values take the same durations.

All commands take all options, before or after the command.

## What is refused

The program refuses a bad value, an option that does not exist, a key that is given twice, and a
file that can't be read. It writes one line that says where and what, and ends with exit code 2
before it starts anything.

```text
kube-gpu-exporter: error: --full-interval: 'x' is not a duration (such as 5s)
kube-gpu-exporter: error: GPU_EXPORTER_FULL_INTERVAL: 'x' is not a duration (such as 5s)
kube-gpu-exporter: error: config.yaml:3: full-interval: 'x' is not a duration (such as 5s)
kube-gpu-exporter: error: config.yaml:4: ful-interval: no such option; did you mean full-interval?
```

Environment variables that begin with `GPU_EXPORTER_` and belong to no option are refused as well.
Those that Kubernetes sets for a Service called `gpu-exporter`, such as `GPU_EXPORTER_SERVICE_HOST`
and `GPU_EXPORTER_PORT_9400_TCP`, are left alone.
"""

_HEADER = """\
| flag | environment | file | default | unit | meaning |
| --- | --- | --- | --- | --- | --- |
"""


def render() -> str:
    """Write the page; the same options give the same text."""
    parts = [_INTRODUCTION]
    for section, options in groupby(OPTIONS.values(), key=lambda option: option.section):
        rows = "\n".join(_row(option) for option in options)
        parts.append(f"## {section}\n\n{_HEADER}{rows}\n")
    parts.append(
        "## Values that must fit each other\n\n"
        + "\n".join(
            f"- `{OPTIONS[shorter].key}` must not be longer than `{OPTIONS[longer].key}`."
            for shorter, longer in ORDERED
        )
        + "\n- "
        + " and ".join(f"`{OPTIONS[name].key}`" for name in TOGETHER)
        + " need each other.\n"
        "- Options of the simulated node need `--backend simulated` or `auto`.\n"
    )
    parts.append(f"## Example file\n\nEvery key, at its default:\n\n```yaml\n{example()}```\n")
    return "\n".join(parts)


def example() -> str:
    """Write a configuration file that changes nothing: each key stands at its default.

    Keys of the simulated node are left out, because the default backend refuses them.
    """
    return "\n".join("\n".join(_entry(option)) + "\n" for option in _example_options())


def _example_options() -> Iterator[Option]:
    for option in OPTIONS.values():
        if option.in_file and option.section != "Simulated node":
            yield option


def _entry(option: Option) -> Iterator[str]:
    for line in textwrap.wrap(option.help, width=96, break_on_hyphens=False):
        yield f"# {line}"
    if option.multiple:
        yield f"{option.key}:"
        for value in option.default:
            yield f"  - {value}"
    else:
        yield f"{option.key}: {option.text(option.default)}".rstrip()


def _row(option: Option) -> str:
    environment = ", ".join(f"`{name}`" for name in option.environment)
    key = f"`{option.key}`" if option.in_file else ""
    text = option.text(option.default)
    default = f"`{text}`" if text else "none"
    cells = (f"`{option.flag}`", environment, key, default, option.unit, _meaning(option))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _meaning(option: Option) -> str:
    meaning = option.help.replace("*", "\\*")
    choices = getattr(option.kind, "choices", None)
    if choices:
        return f"{', '.join(f'`{choice}`' for choice in choices)}. {meaning}"
    if isinstance(option.kind, Duration):
        lowest, highest = option.text(option.kind.minimum), option.text(option.kind.maximum)
        return f"{meaning} From {lowest} to {highest}."
    return meaning
