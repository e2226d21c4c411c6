"""What a pod does on a simulated GPU, by a scenario or by the pod's own annotation.

Both use the same words. An annotation is a scenario's ``workload`` on one line. The kind comes
first, and then its parameters, separated by commas::

    kube-gpu-exporter/simulate: "utilization=20%-80%, memory=10Gi"
    kube-gpu-exporter/simulate: "leak, period=5m"
    kube-gpu-exporter/simulate: idle

Without a kind it is ``steady``. ``backoff`` and ``silent`` are only for scenarios, because a real
container ends, writes its message and is restarted by itself.
"""

import re
from typing import Final

from exporter.document import DocumentError, Entry, Value, parse
from exporter.gpus.simulated.workloads import DEFAULTS, Workload, WorkloadKind

ANNOTATION: Final = "kube-gpu-exporter/simulate"

_KINDS: Final = tuple(WorkloadKind)
_WORD: Final = re.compile(r"[\w.%-]+")
_NUMBER: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(%?)")
_SIZE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([MGT]i)")
_UNITS: Final = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_annotation(text: str) -> Workload:
    """Read an annotation's text. Raises :class:`DocumentError`, whose message is one line."""
    words = [word.strip() for word in text.split(",")]
    pairs = []
    for number, word in enumerate(words):
        name, equals, value = (piece.strip() for piece in word.partition("="))
        if not equals and number == 0:
            name, value = "kind", name
        if not _WORD.fullmatch(name) or not _WORD.fullmatch(value):
            raise DocumentError(
                f"{ANNOTATION}: {word!r} is no name=value; an example: leak, memory=10Gi, period=5m"
            )
        pairs.append(f"{name}: {value}")
    try:
        entry = parse(ANNOTATION, f"{{{', '.join(pairs)}}}".encode()).entry()
        workload = _read(entry, entry.get("kind", _kind, WorkloadKind.STEADY))
        entry.finish()
    except DocumentError as error:
        # An annotation has only one line, so its number says nothing.
        message = str(error).replace(f", first at {ANNOTATION}:1", "")
        raise DocumentError(message.replace(f"{ANNOTATION}:1:", f"{ANNOTATION}:", 1)) from None
    return workload


def read_workload(value: Value) -> Workload:
    """Read a scenario's workload: a kind, or a mapping with one. Raises :class:`DocumentError`."""
    if not value.is_mapping:
        return DEFAULTS[_kind(value)]
    entry = value.entry()
    workload = _read(entry, entry.take("kind", _kind), ends=True)
    entry.finish()
    if workload.backoff is not None and not workload.leaks:
        raise entry.at("backoff").error("only a leak is restarted")
    if workload.silent and workload.kind is not WorkloadKind.LEAK:
        raise entry.at("silent").error("only a leak would have something to say")
    return workload


def _read(entry: Entry, kind: WorkloadKind, *, ends: bool = False) -> Workload:
    base = DEFAULTS[kind]
    memory = entry.get("memory", _ratio_or_bytes, base.memory)
    least, most = entry.get("utilization", _ratio_or_range, (None, base.utilization))
    if least is not None and kind is not WorkloadKind.STEADY:
        raise entry.at("utilization").error(f"a range is for {WorkloadKind.STEADY}, not for {kind}")
    workload = Workload(
        kind,
        memory=base.memory if isinstance(memory, int) else memory,
        memory_bytes=memory if isinstance(memory, int) else None,
        utilization=most,
        utilization_least=least,
        period=entry.get("period", Value.seconds, base.period),
        backoff=entry.get("backoff", Value.seconds, base.backoff) if ends else None,
        silent=entry.get("silent", Value.boolean, default=False) if ends else False,
    )
    if workload.period == 0:
        raise entry.at("period").error("period: has to be more than 0")
    return workload


def _kind(value: Value) -> WorkloadKind:
    return WorkloadKind(value.one_of(_KINDS))


def _ratio_or_range(value: Value) -> tuple[float | None, float]:
    """Read a ratio, or a range of them such as ``20%-80%``; of a ratio, the first is None."""
    low, dash, high = value.scalar().partition("-")
    least, most = (_ratio(low), _ratio(high)) if dash else (None, _ratio(low))
    if most is None or (dash and (least is None or least > most)):
        raise _expected(value, "a ratio from 0 to 1, a percentage, or a range such as 20%-80%")
    return least, most


def _ratio_or_bytes(value: Value) -> float | int:
    """Read a ratio, as a float, or a size in bytes such as ``10Gi``, as an integer."""
    text = value.scalar()
    ratio = _ratio(text)
    if ratio is not None:
        return ratio
    if (size := _SIZE.fullmatch(text)) is None:
        raise _expected(value, "a ratio from 0 to 1, a percentage, or a size such as 10Gi")
    return round(float(size[1]) * _UNITS[size[2]])


def _ratio(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    ratio = float(match[1]) / (100 if match[2] else 1)
    return ratio if ratio <= 1 else None


def _expected(value: Value, what: str) -> DocumentError:
    return value.wrong(f"expected {what}, got {value.scalar()[:60]!r}")
