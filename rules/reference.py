"""``docs/alerts.md``, from the alerts, the recording rules and their settings."""

from collections.abc import Iterator

from rules.alerts import GROUPS
from rules.recording import RECORDINGS
from rules.settings import ALERTS, GENERAL, Kind, Setting, Value

_HEAD = """\
# Alerts

Generated from `rules/` by `make update`; `make check` holds it to that.

`rules/generated/prometheus/` holds the rules as plain Prometheus rule files, by subject;
`rules/generated/prometheusrule.yaml` is all of them as a PrometheusRule object, and the Helm
chart makes the same object from its values. `rules/generated/extra/dcgm.yaml` is for clusters
that run DCGM-exporter too: the alert that articles print, on its names. Prometheus must scrape
the exporter with `honor_labels: true`, so that namespace, pod and container are the workload's.

Each alert has the labels `severity` and `audience`, and those of the thing it is about.
`critical` pages, `warning` is a message or a ticket, `info` is for looking at. Alerts for the
`owner` are about somebody's container, those for the `operator` about nodes and GPUs. Underuse
never pages. Each alert has a sentence as its summary, a description with names and numbers, the
URL of its runbook and, when Grafana's address is known, that of the dashboard which shows more.

## Thresholds, durations, severities

All of them are settings, with one shape for a file and for the chart's values below
`prometheusRule`; what is not given stays as it is in the tables below:

```yaml
exemptNamespaces: [kube-system]
grace: 2h
prices:                       # of a GPU for an hour; OpenCost's node_gpu_hourly_cost counts first
  NVIDIA H100 80GB HBM3: 2.5
groups:
  underuse: {enabled: true}
alerts:
  GPUContainerIdle: {for: 10m, severity: info, window: 1h}
  GPUMemoryNearlyFull: {enabled: false}
```

`python -m rules --settings FILE --out DIR` writes the rule files, with `--format prometheusrule`
the object. A file with a mistake is refused with one line that names file, line and mistake.
`--scale 60` shrinks all windows and durations sixty times, to see the rules work; never for
production.

## Exempting

- A pod: annotation or label `kube-gpu-exporter/exempt`, with words separated by commas:
  `underuse`, `memory` (memory that grows or is nearly full), `all`. Needs the exporter's pod
  watch.
- A namespace: `exemptNamespaces`, of underuse.
- The first hours of any container: `grace`, of underuse.
- For a while: a silence in Alertmanager.
"""


def render() -> str:
    """Return the page as Markdown."""
    return "".join((_HEAD, *_alerts(), *_settings(), *_recordings()))


def _alerts() -> Iterator[str]:
    for group, alerts in GROUPS.items():
        off = " (off by default)" if group == "dcgm" else ""
        yield f"\n## Group `{group}`{off}\n\n"
        yield "| alert | severity | audience | for | meaning |\n| --- | --- | --- | --- | --- |\n"
        for alert in alerts:
            settings = ALERTS[alert.name]
            severity, wait = settings["severity"].default, settings["for"].default
            yield (
                f"| [{alert.name}](runbooks/{alert.name}.md) | {severity} | {alert.audience} |"
                f" {wait} | {alert.summary} |\n"
            )


def _settings() -> Iterator[str]:
    yield "\n## Settings\n\n| setting | default | meaning |\n| --- | --- | --- |\n"
    for key, setting in GENERAL.items():
        yield _row(key, setting)
    yield (
        "\nEvery alert has `enabled`, `severity`, `for` and `keepFiringFor`, which is how long it"
        " stays after it was last so (`0s`: not at all). Below `alerts.NAME` there are also:\n\n"
        "| setting | default | meaning |\n| --- | --- | --- |\n"
    )
    for alert, settings in ALERTS.items():
        for key, setting in settings.items():
            if key not in {"enabled", "severity", "for"} and (
                key != "keepFiringFor" or setting.default != "0s"
            ):
                yield _row(f"{alert}.{key}", setting)


def _row(key: str, setting: Setting) -> str:
    return f"| `{key}` | {_text(setting.default, setting.kind)} | {setting.meaning} |\n"


def _text(value: Value, kind: Kind) -> str:
    if isinstance(value, float | int):
        return f"{value:.15g}" + {
            Kind.SECONDS: " s",
            Kind.BYTES: " bytes",
            Kind.CELSIUS: " °C",
        }.get(kind, "")
    return f"`{value}`" if value else "none"


def _recordings() -> Iterator[str]:
    yield (
        "\n## Recording rules\n\n"
        "GPUs are counted in whole ones. A MIG slice counts by its part of the board's memory,\n"
        "which the slices of a board share out nearly without rest, while there are SMs that no\n"
        "profile can have. A share of a time-sliced or MPS GPU counts by the part that the"
        " exporter\n"
        "books for it (one of four: a quarter). `allocation` is a container's hold on one device;\n"
        "container, pod, workload and namespace sum what they hold; node and cluster are about\n"
        "whole boards, held or not. Hours, energy and cost of a day integrate over the last 24\n"
        "hours, what has ended included. A GPU without a price has no cost, rather than none.\n"
        "\n| rule | labels | unit | meaning |\n| --- | --- | --- | --- |\n"
    )
    for name, recording in RECORDINGS.items():
        labels = ", ".join(f"`{label}`" for label in recording.labels)
        yield f"| `{name}` | {labels} | {recording.unit} | {recording.help} |\n"
