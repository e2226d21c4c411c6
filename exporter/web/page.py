"""The plain page on ``/``, for a person who wants to know what answers here."""

from collections.abc import Iterable, Sequence
from html import escape

from exporter import __version__
from exporter.model.devices import Slice
from exporter.model.readings import Memory
from exporter.model.snapshot import ContainerSample, GpuSample, Snapshot
from exporter.web.readiness import Check, checks

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
.wide { overflow-x: auto; } td { white-space: nowrap; font-variant-numeric: tabular-nums; }
.note { padding: .6rem 1rem; border-left: 4px solid #c77700; background: #c7770018; }
.bad { color: #c0392b; font-weight: 600; }
"""


def render_page(snapshot: Snapshot) -> str:
    """Return the page as HTML. All names are escaped, because pods and drivers choose them."""
    driver = snapshot.driver
    about = f"version {__version__}, backend {snapshot.backend}"
    if driver:
        about += f", driver {driver.version}"
        about += f", CUDA {driver.cuda_version}" if driver.cuda_version else ""
    simulated = (
        '<p class="note">These GPUs are simulated: no number here is of real hardware.</p>'
        if snapshot.backend == "simulated"
        else ""
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kube-gpu-exporter</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>kube-gpu-exporter</h1>
<p>{escape(about)}</p>
{simulated}
<p><a href="/metrics">/metrics</a> · <a href="/healthz">/healthz</a> ·
<a href="/readyz">/readyz</a></p>
{_problems(checks(snapshot))}
<h2>GPUs</h2>
{_table(("GPU", "Model", "State", "Utilization", "Memory", "Power", "UUID"), _gpus(snapshot.gpus))}
<h2>Containers on GPUs</h2>
{
        _table(
            ("Namespace", "Pod", "Container", "GPU", "Sharing", "Utilization", "Memory"),
            _containers(snapshot.containers),
        )
    }
</body></html>
"""


def _problems(found: Iterable[Check]) -> str:
    bad = [check for check in found if not check.ok]
    if not bad:
        return ""
    items = "".join(
        f'<li><span class="bad">{escape(check.name)}</span>: {escape(check.reason)}</li>'
        for check in bad
    )
    return f"<h2>Problems</h2><ul>{items}</ul>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return "<p>None.</p>"
    names = "".join(f"<th>{name}</th>" for name in head)
    return f'<div class="wide"><table><tr>{names}</tr>{body}</table></div>'


def _gpus(samples: Iterable[GpuSample]) -> Iterable[Sequence[str]]:
    for sample in samples:
        yield _gpu(sample)
        for slice_ in sample.gpu.slices:
            yield _slice(sample, slice_)


def _gpu(sample: GpuSample) -> Sequence[str]:
    gpu, data = sample.gpu, sample.data
    if data is None:
        return str(gpu.index), gpu.model, sample.state, "-", "-", "-", gpu.uuid
    return (
        str(gpu.index),
        gpu.model,
        sample.state,
        _percent(data.device.utilization_ratio),
        _used(data.fast.memory),
        _watts(data.full.power_draw_watts),
        gpu.uuid,
    )


def _slice(sample: GpuSample, slice_: Slice) -> Sequence[str]:
    name, data = f"{sample.gpu.index} / {slice_.gpu_instance}", sample.data
    if data is None:
        return name, slice_.profile, "", "-", "-", "", slice_.uuid
    totals = data.slices.get(slice_.gpu_instance)
    return (
        name,
        slice_.profile,
        "",
        _percent(totals.utilization_ratio if totals else None),
        _used(data.fast.instance_memory.get(slice_.gpu_instance)),
        "",
        slice_.uuid,
    )


def _containers(samples: Iterable[ContainerSample]) -> Iterable[Sequence[str]]:
    for sample in samples:
        if sample.ended:
            continue
        allocation = sample.allocation
        device = f"GPU {allocation.gpu.index}"
        if allocation.slice:
            device += f", slice {allocation.slice.profile}"
        yield (
            allocation.container.namespace,
            allocation.container.pod,
            allocation.container.name,
            device,
            allocation.sharing,
            _percent(sample.utilization_ratio),
            _memory(sample.memory_used_bytes, sample.memory_limit_bytes),
        )


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def _watts(watts: float | None) -> str:
    return "-" if watts is None else f"{watts:.0f} W"


def _used(memory: Memory | None) -> str:
    return _memory(memory.used_bytes, memory.total_bytes) if memory else "-"


def _memory(used: int | None, limit: int | None) -> str:
    """Write what is used, and of how much where there is a limit: a shared GPU has none."""
    if used is None:
        return "-"
    gib = f"{used / 2**30:.1f}"
    return f"{gib} GiB" if limit is None else f"{gib} of {limit / 2**30:.1f} GiB"
