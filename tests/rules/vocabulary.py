"""What a PromQL expression speaks of, checked against the metric table and the recording rules.

:func:`labels` works out which labels an expression's result may have, as Prometheus would, and
finds fault with whatever can't be: a metric or label that nobody has, a join on a label that one
side lacks, sides that can never match, ``rate`` of a gauge.
"""

import re
from collections.abc import Iterable

import promql_parser as promql

from exporter.gpus.nvml.identity import _THRESHOLDS, CLOCKS
from exporter.gpus.nvml.reads import CLOCK_EVENTS
from exporter.gpus.nvml.slow import (
    _ECC_LOCATIONS,
    _ECC_SEVERITIES,
    _ECC_SRAM_PARTS,
    CLOCK_EVENT_COUNTERS,
)
from exporter.metrics.table import TABLE
from exporter.model import xids
from exporter.model.claims import Sharing
from exporter.model.oom import Confidence
from rules.recording import RECORDINGS

_TARGET = frozenset({"node", "job", "instance"})
"""Labels that every scraped series has: the exporter's own and its target's."""

# What other programs tell, with the labels that we use.
_FOREIGN = {
    "up": _TARGET,
    "ALERTS": frozenset({"alertname", "alertstate"}),
    "kube_node_status_capacity": _TARGET | {"resource", "unit"},
    "node_gpu_hourly_cost": _TARGET,
    "DCGM_FI_DEV_GPU_UTIL": frozenset(
        {*("gpu", "UUID", "Hostname", "hostname", "namespace", "pod", "container"), *_TARGET}
    ),
}
KNOWN = {
    **_FOREIGN,
    **{family.name: _TARGET | set(family.labels) for family in TABLE},
    **{name: frozenset(recording.labels) for name, recording in RECORDINGS.items()},
}

_XID_ACTIONS = {*xids.ACTIONS.values(), xids.UNKNOWN}
_OF_KUBERNETES = {"kubelet", "kubernetes", "kubernetes_events"}
_SOURCES = {"nvml", "simulated", "events", "processes", *_OF_KUBERNETES}
_VALUES: dict[tuple[str, str], Iterable[str]] = {
    ("gpu_exporter_source_up", "source"): _SOURCES,
    ("gpu_exporter_source_duration_seconds", "source"): _SOURCES,
    ("gpu_xid_last_timestamp_seconds", "action"): _XID_ACTIONS,
    ("gpu_xid_errors_total", "action"): _XID_ACTIONS,
    ("gpu_allocation_info", "sharing"): Sharing,
    ("gpu_container_oom_events_total", "confidence"): Confidence,
    ("gpu_clock_hertz", "domain"): CLOCKS,
    ("gpu_clock_event_active", "reason"): CLOCK_EVENTS,
    ("gpu_clock_event_seconds_total", "reason"): CLOCK_EVENT_COUNTERS,
    ("gpu_temperature_celsius", "sensor"): ("gpu", "memory"),
    ("gpu_temperature_threshold_celsius", "threshold"): _THRESHOLDS,
    ("gpu_ecc_errors_total", "severity"): _ECC_SEVERITIES,
    ("gpu_ecc_errors_total", "location"): (*_ECC_LOCATIONS, *_ECC_SRAM_PARTS),
}
"""Values of labels that have a known set of them."""

_OF_COUNTERS = {"rate", "irate", "increase", "resets"}
_OF_GAUGES = {"predict_linear", "deriv", "delta", "idelta", "changes"}
_SET_OPERATORS = {"and", "or", "unless"}
_KEEPING = {"topk", "bottomk", "limitk"}


class UnknownError(Exception):
    """An expression that can't mean anything."""


def metrics(text: str) -> set[str]:
    """Give the metrics that an expression selects."""
    return {_name(selector) for selector in _selectors(promql.parse(text))}


def labels(text: str) -> frozenset[str]:
    """Give the labels that the result of ``text`` may have.

    Raises :class:`UnknownError`.
    """
    return _labels(promql.parse(text)) or frozenset()


def _selectors(expr: promql.Expr) -> Iterable[promql.VectorSelector]:
    found: list[promql.VectorSelector] = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector | promql.MatrixSelector):
            found.append(_selector(node))

    promql.walk(expr, visit)
    return found


def _selector(expr: promql.VectorSelector | promql.MatrixSelector) -> promql.VectorSelector:
    return expr.vector_selector if isinstance(expr, promql.MatrixSelector) else expr


def _name(selector: promql.VectorSelector) -> str:
    if selector.name is None:
        raise UnknownError("a selector without a metric")
    return selector.name


def _labels(expr: promql.Expr) -> frozenset[str] | None:
    """Give the labels of a vector; of a scalar or a text none at all."""
    match expr:
        case promql.VectorSelector() | promql.MatrixSelector():
            return _of_selector(_selector(expr))
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return _labels(expr.expr)
        case promql.Call():
            return _of_call(expr)
        case promql.AggregateExpr():
            return _of_aggregate(expr)
        case promql.BinaryExpr():
            return _of_binary(expr)
    return None


def _of_selector(selector: promql.VectorSelector) -> frozenset[str]:
    name = _name(selector)
    if name not in KNOWN:
        raise UnknownError(f"no such metric: {name}")
    known = KNOWN[name]
    for matcher in selector.matchers.matchers:
        _need({matcher.name}, known, f"{name} is selected")
        _possible(name, matcher.name, matcher.value)
    return frozenset(known)


def _possible(name: str, label: str, pattern: str) -> None:
    """Check that each alternative of a matcher is, or matches, a value that there can be."""
    values = _VALUES.get((name, label))
    if values is None:
        return
    # Alternatives at the top: those within brackets are of one pattern.
    for each in re.split(r"\|(?![^(]*\))", pattern):
        if each and not any(re.fullmatch(each, value) for value in values):
            raise UnknownError(f"{name}: no {label} is {each}")


def _of_call(call: promql.Call) -> frozenset[str] | None:
    name = call.func.name
    if name in {"vector", "absent"}:
        return frozenset()
    if name == "time":
        return None
    vectors = [found for arg in call.args if (found := _labels(arg)) is not None]
    for selector in _selectors(call.args[0]) if call.args else ():
        counter = _name(selector).endswith("_total")
        if name in (_OF_GAUGES if counter else _OF_COUNTERS):
            raise UnknownError(f"{name} of {selector.name}")
    inner = vectors[0]
    if name == "label_replace":
        target, _, source = (argument.val for argument in call.args[1:4])
        if source:
            _need({source}, inner, "label_replace")
        return inner | {target}
    return inner


def _of_aggregate(aggregate: promql.AggregateExpr) -> frozenset[str]:
    inner = _labels(aggregate.expr) or frozenset()
    kept = set(aggregate.modifier.labels) if aggregate.modifier else set()
    if aggregate.modifier and str(aggregate.modifier.type) != "AggModifierType.By":
        raise UnknownError("without: names what is dropped, and lets all else through")
    _need(kept, inner, f"{aggregate.op} by")
    return inner if str(aggregate.op) in _KEEPING else frozenset(kept)


def _of_binary(binary: promql.BinaryExpr) -> frozenset[str] | None:
    left, right = _labels(binary.lhs), _labels(binary.rhs)
    if left is None or right is None:
        return right if left is None else left
    operator, modifier = str(binary.op), binary.modifier
    matching = modifier.matching if modifier else None
    if modifier is None or matching is None:
        if left != right and operator != "or":
            raise UnknownError(f"{operator} between {sorted(left ^ right)} of one side only")
        return left | right
    on = frozenset(matching.labels)
    _need(on, left, f"left of {operator} on")
    _need(on, right, f"right of {operator} on")
    if operator in _SET_OPERATORS:
        return left | right if operator == "or" else left
    if str(modifier.card) == "VectorMatchCardinality.ManyToOne":
        brought = set(modifier.group_labels or ())
        _need(brought, right, f"{operator} group_left")
        return left | brought
    if str(modifier.card) == "VectorMatchCardinality.OneToOne":
        return on
    raise UnknownError("group_right: write the many on the left")


def _need(wanted: Iterable[str], known: Iterable[str], where: str) -> None:
    if missing := set(wanted) - set(known):
        raise UnknownError(f"{where}: no such label: {', '.join(sorted(missing))}")


def unique(text: str) -> None:
    """Check that no join of ``text`` can find two series where it needs one.

    Raises :class:`UnknownError`.
    """

    def visit(node: promql.Expr) -> None:
        if not isinstance(node, promql.BinaryExpr) or str(node.op) in _SET_OPERATORS:
            return
        if not (node.modifier and node.modifier.matching):
            return
        on = set(node.modifier.matching.labels)
        sides = [node.rhs]
        if str(node.modifier.card) == "VectorMatchCardinality.OneToOne":
            sides.append(node.lhs)
        for side in sides:
            if not _key(side) <= on:
                raise UnknownError(f"more than one series for each {sorted(on)}: {side}")

    promql.walk(promql.parse(text), visit)


def _key(expr: promql.Expr) -> set[str]:
    """Give labels of which no two series of ``expr`` have the same."""
    match expr:
        case promql.VectorSelector() | promql.MatrixSelector():
            name = _name(_selector(expr))
            return set(RECORDINGS[name].key if name in RECORDINGS else KNOWN[name])
        case promql.ParenExpr() | promql.SubqueryExpr() | promql.UnaryExpr():
            return _key(expr.expr)
        case promql.AggregateExpr():
            return set(expr.modifier.labels) if expr.modifier else set()
        case promql.Call():
            return _key_of_call(expr)
        case promql.BinaryExpr():
            return _key_of_binary(expr)
    return set()


def _key_of_call(call: promql.Call) -> set[str]:
    key = _key(call.args[-1 if call.func.name == "quantile_over_time" else 0])
    if call.func.name == "label_replace":
        target, _, source = (argument.val for argument in call.args[1:4])
        return key - {source} | {target} if source in key else key
    return key


def _key_of_binary(binary: promql.BinaryExpr) -> set[str]:
    if isinstance(binary.lhs, promql.NumberLiteral):
        return _key(binary.rhs)
    left, operator = _key(binary.lhs), str(binary.op)
    if operator == "or":
        on = binary.modifier.matching if binary.modifier else None
        return set(on.labels) if on and left <= set(on.labels) else left | _key(binary.rhs)
    return left
