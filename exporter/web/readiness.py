"""Whether there is anything to scrape, and the reasons where there is not."""

from dataclasses import dataclass

from exporter.model.snapshot import GpuState, Snapshot


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that should work. Without a ``required`` one there is nothing to collect."""

    name: str
    ok: bool
    required: bool
    reason: str = ""


def checks(snapshot: Snapshot) -> tuple[Check, ...]:
    """Judge the driver, the GPUs and the other sources, most important first.

    A kubelet that does not answer costs the series of containers and not those of GPUs. So it is
    reported here, and does not take the exporter out of service.
    """
    sources = tuple(
        Check(
            name=source.name,
            ok=source.up,
            required=source.name == snapshot.backend,
            reason=source.message,
        )
        for source in snapshot.sources
    )
    return (*sources[:1], _gpus(snapshot), *sources[1:])


def ready(found: tuple[Check, ...]) -> bool:
    return all(check.ok for check in found if check.required)


def _gpus(snapshot: Snapshot) -> Check:
    """Judge the GPUs: one that can be read is enough, and each that can't be read is named."""
    away = [s for s in snapshot.gpus if s.data is None]
    if not snapshot.gpus:
        return Check("gpus", ok=False, required=True, reason="no GPU has been found")
    reason = ", ".join(
        f"GPU {s.gpu.index} " + ("is not read yet" if s.state is GpuState.OK else f"is {s.state}")
        for s in away
    )
    readable = len(away) < len(snapshot.gpus)
    return Check("gpus", ok=not away, required=not readable, reason=reason)
