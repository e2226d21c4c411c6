"""``docs/alerts.md``, from the alerts, the recording rules and their settings."""

from collections.abc import Iterator

from rules.alerts import ALERT_GROUPS, ALERTS
from rules.recording import RECORDING_GROUPS, Recording
from rules.setting import Kind, Setting, Value
from rules.settings import GENERAL

_HEAD = """\
# Alerts

Generated from `rules/` by `make update`; `make check` holds it to that.

`rules/generated/prometheus/` holds the rules as plain Prometheus rule files, by subject;
`rules/generated/prometheusrule.yaml` is all of them as a PrometheusRule object, and the Helm
chart makes the same object from its values. `rules/generated/extra/` holds the groups that are off
by default: `dcgm.yaml`, for clusters that also run DCGM-exporter, is the alert that articles print,
with DCGM's names; `reports.yaml` holds recording rules for reports. Prometheus must scrape
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

_RECORDING_HEAD = """\
Alerts and dashboards read these. GPUs are counted in whole ones. A MIG slice counts by its share of
the board's memory, because the slices of a board divide the memory nearly without a rest, while
some SMs belong to no profile. A share of a time-sliced or MPS GPU counts by the fraction that the
exporter books for it (one of four: a quarter). `allocation` is one device that is allocated to one
container; `workload`, `namespace`, `node` and `cluster` are sums or facts of these. A GPU without a
price has no cost, rather than a cost of 0.
"""
_REPORTS_HEAD = """\
No alert and no dashboard of ours reads these. Switch the group on (`groups.reports.enabled`) for
reports and dashboards of your own. Hours, energy and cost of a day integrate over the last 24
hours, and include what has ended.
"""
_TABLE = "| rule | labels | unit | meaning |\n| --- | --- | --- | --- |\n"


def render() -> str:
    """Return the page as Markdown."""
    return "".join((_HEAD, *_alerts(), *_settings(), *_recordings()))


def _alerts() -> Iterator[str]:
    for group in ALERT_GROUPS:
        off = "" if group.on else " (off by default)"
        yield f"\n## Group `{group.name}`{off}\n\n"
        yield "| alert | severity | audience | for | meaning |\n| --- | --- | --- | --- | --- |\n"
        for alert in group.alerts:
            yield (
                f"| [{alert.name}](runbooks/{alert.name}.md) | {alert.severity} |"
                f" {alert.audience} | {alert.for_} | {alert.summary} |\n"
            )


def _settings() -> Iterator[str]:
    yield "\n## Settings\n\n| setting | default | meaning |\n| --- | --- | --- |\n"
    for key, setting in GENERAL.items():
        yield _row(key, setting)
    yield (
        "\nEvery alert has `enabled`, `severity`, `for` and `keepFiringFor`, which is how long the"
        " alert\nstays after its condition last held (`0s`: not at all). These are the other"
        " settings below\n`alerts.NAME`:\n\n| setting | default | meaning |\n| --- | --- | --- |\n"
    )
    for alert in ALERTS.values():
        if alert.keep != "0s":
            yield _row(f"{alert.name}.keepFiringFor", alert.every_setting["keepFiringFor"])
        for key, setting in alert.settings.items():
            yield _row(f"{alert.name}.{key}", setting)


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
    yield f"\n## Recording rules\n\n{_RECORDING_HEAD}\n{_TABLE}"
    for group in RECORDING_GROUPS:
        if not group.switch:
            yield from map(_recording, group.recordings)
    yield f"\n### Group `reports` (off by default)\n\n{_REPORTS_HEAD}\n{_TABLE}"
    for group in RECORDING_GROUPS:
        if group.switch:
            yield from map(_recording, group.recordings)


def _recording(recording: Recording) -> str:
    labels = ", ".join(f"`{label}`" for label in recording.labels)
    return f"| `{recording.name}` | {labels} | {recording.unit} | {recording.help} |\n"
