"""Where values come from: flags, the environment, a YAML file and the defaults, in this order.

click does the work: the file becomes its map of defaults. This module adds the reading of the file,
the refusal of names that nobody declared, and errors that say where the bad value was given.

In the environment and in the file, an empty value counts as not given. Text means the same in every
source, so that scalars of the file are taken as they are written: ``on`` is not a boolean, and
``010`` is ten.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from exporter.config.options import (
    ENVIRONMENT_PREFIX,
    OPTIONS,
    ORDERED,
    TOGETHER,
    Config,
    Option,
)
from exporter.document import DocumentError, FileError, Value, did_you_mean, parse, read_file
from exporter.model.labels import label_name

_PLACES: Final = "exporter.config.places"
"""Key in a click context's ``meta``: where the file gives each option, by name."""

# Kubernetes gives every pod the addresses of its namespace's Services. These variables begin as
# ours do when a Service is called gpu-exporter, or gpu-exporter-something.
_SERVICE_LINK: Final = re.compile(
    ENVIRONMENT_PREFIX
    + r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_(PROTO|PORT|ADDR))?)?)"
)


class ConfigError(click.UsageError):
    """A value or a name that can't be used. The message says where it is and what is wrong."""


def parameters() -> list[click.Parameter]:
    """Make click's options from the declared ones."""
    return [_parameter(option) for option in OPTIONS.values()]


def resolve(context: click.Context) -> Config:
    """Make the configuration from a command line that click has parsed with :func:`parameters`.

    Raises :class:`ConfigError` for variables that nobody declared, and for values that do not fit
    each other.
    """
    _reject_unknown_variables(os.environ)
    config = Config(**{name: context.params[name] for name in OPTIONS})
    for shorter, longer in ORDERED:
        _check_order(context, config, shorter, longer)
    _check_labels(context, config.pod_labels)
    for name, other in permutations(TOGETHER, 2):
        if _given(context, name) and not _given(context, other):
            raise ConfigError(f"{_place(context, name)}: needs {OPTIONS[other].key} too")
    if config.backend == "nvml":
        for name, option in OPTIONS.items():
            if option.section == "Simulated node" and _given(context, name):
                raise ConfigError(f"{_place(context, name)}: needs --backend simulated or auto")
    return config


def explain(error: click.ClickException) -> str:
    """Explain an error in one line: where it is, and what is wrong."""
    match error:
        case click.BadParameter(ctx=click.Context() as context, param=click.Parameter() as param):
            message = f"{_place(context, param.name)}: {error.message}"
        case click.NoSuchOption():
            message = f"{error.option_name}: no such option{_instead(error.possibilities)}"
        case click.BadOptionUsage():
            message = error.message.removeprefix(f"Option {error.option_name!r} ")
            message = f"{error.option_name}: {message}"
        case _:
            message = error.format_message()
    return " ".join(message.split()).rstrip(".")


def _parameter(option: Option) -> click.Option:
    text = option.text(option.default)
    return click.Option(
        [option.flag],
        type=option.kind,
        default=([text] if option.multiple else text) if text else option.default,
        show_default=bool(text),
        multiple=option.multiple,
        envvar=option.environment,
        help=option.help,
        is_eager=not option.in_file,
        callback=_callback(option),
    )


def _callback(option: Option) -> Any:
    if option.name == "config":
        return _use_file
    return _flatten if option.multiple else None


def _flatten(
    _context: click.Context, _param: click.Parameter, values: Iterable[tuple[str, ...]]
) -> tuple[str, ...]:
    return tuple(value for group in values for value in group)


def _use_file(context: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        values, places = _read_file(path)
        context.default_map = values
        context.meta[_PLACES] = places
    return path


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read the text of each option that a file gives, and its place, by the option's name."""
    try:
        content = read_file(path)
    except FileError as error:
        raise click.BadParameter(f"cannot read {str(path)!r}: {error}") from error
    try:
        return _values(parse(str(path), content))
    except DocumentError as error:
        raise ConfigError(str(error)) from error


def _values(root: Value) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    if root.is_nothing:
        return values, places
    entry = root.entry()
    for option in OPTIONS.values():
        if not option.in_file:
            continue
        texts = entry.get(option.key, _texts if option.multiple else _text, [])
        if texts:
            values[option.name] = texts if option.multiple else texts[0]
            places[option.name] = f"{entry.at(option.key).place}: {option.key}"
    entry.finish("option")
    return values, places


def _text(value: Value) -> list[str]:
    return [] if value.is_nothing else [value.scalar()]


def _texts(value: Value) -> list[str]:
    return [text for item in value.item_or_items() for text in _text(item)]


def _reject_unknown_variables(environment: Mapping[str, str]) -> None:
    known = {name for option in OPTIONS.values() for name in option.environment}
    for name in sorted(environment):
        if (
            name.startswith(ENVIRONMENT_PREFIX)
            and name not in known
            and not _SERVICE_LINK.fullmatch(name)
        ):
            raise ConfigError(f"{name}: no such option{did_you_mean(name, sorted(known))}")


def _check_order(context: click.Context, config: Config, shorter: str, longer: str) -> None:
    """Blame a value that was given rather than a default, and of two given ones the longer."""
    low, high = getattr(config, shorter), getattr(config, longer)
    if low <= high:
        return
    relation, blamed, other = "shorter", longer, shorter
    if _given(context, shorter) and not _given(context, longer):
        relation, blamed, other = "longer", shorter, longer
    value = OPTIONS[blamed].text(getattr(config, blamed))
    against = OPTIONS[other].text(getattr(config, other))
    origin = _place(context, other) if _given(context, other) else "default"
    raise ConfigError(
        f"{_place(context, blamed)}: {value} is {relation} than"
        f" {OPTIONS[other].key}, {against} ({origin})"
    )


def _check_labels(context: click.Context, keys: Iterable[str]) -> None:
    """Refuse keys that would become the same label, which Prometheus does not take twice."""
    names: dict[str, str] = {}
    for key in keys:
        name = label_name(key)
        if name in names:
            raise ConfigError(
                f"{_place(context, 'pod_labels')}: {names[name]!r} and {key!r} would be the same"
                f" label, {name}"
            )
        names[name] = key


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _place(context: click.Context, name: str | None) -> str:
    """Return where an option's value was given, in the words in which its user would look."""
    option = OPTIONS.get(name or "")
    if option is None:
        return str(name)
    match context.get_parameter_source(option.name):
        case ParameterSource.ENVIRONMENT:
            return next(variable for variable in option.environment if os.environ.get(variable))
        case ParameterSource.DEFAULT_MAP:
            return str(context.meta[_PLACES][option.name])
        case _:
            return option.flag


def _instead(names: Sequence[str] | None) -> str:
    return f"; did you mean {names[0]}?" if names else ""
