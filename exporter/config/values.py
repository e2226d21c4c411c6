"""Values that options take, beyond numbers and words: durations, addresses, patterns.

Each type turns text into a value, whichever source the text came from, and a value back into the
text that gives it.
"""

import os
import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import click

from exporter.document import DurationError, format_duration, parse_duration
from exporter.metrics.profiles import select

_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^][]+)\]|(?P<host>[^][:]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"(?=.{1,254}$)(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.?")
"""RFC 1123; a name that is longer can't even be looked up."""
_LABEL_KEY = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PATTERN = re.compile(r"[A-Za-z0-9._/*?!\[\]-]+")


class Duration(click.ParamType[float]):
    """Seconds within bounds, from a text in the grammar of :mod:`exporter.document.durations`."""

    name = "duration"

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = parse_duration(str(value))
        except DurationError as error:
            self.fail(str(error), param, ctx)
        if seconds < self.minimum:
            self.fail(f"{value!r} is shorter than {format_duration(self.minimum)}", param, ctx)
        if seconds > self.maximum:
            self.fail(f"{value!r} is longer than {format_duration(self.maximum)}", param, ctx)
        return seconds


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    name = "integer"


class Text(click.ParamType[str]):
    """Text that can be written into an exposition, which is UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            # Bytes of an argument or a variable that are no UTF-8 are kept as lone surrogates.
            self.fail(f"{text!r} is not UTF-8 text", param, ctx)
        return text


class FilePath(click.ParamType[Path]):
    """A path, of which nothing else is asked before the file is read."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        text = str(value)
        try:
            is_path = b"\0" not in os.fsencode(text)
        except UnicodeEncodeError:
            is_path = False
        if not is_path:
            self.fail(f"{text!r} is not a path", param, ctx)
        return Path(text)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. ``host`` is empty for every address of the machine, IPv4 and IPv6.

    Port 0 lets the kernel choose one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ListenAddress(click.ParamType[Address]):
    """An :class:`Address` from ``:port``, ``host:port`` or ``[ipv6]:port``."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        text = str(value)
        found = _ADDRESS.fullmatch(text)
        if not found:
            forms = ":9400, 127.0.0.1:9400 or [::1]:9400"
            self.fail(f"{text!r} is not an address (such as {forms})", param, ctx)
        ipv6, host, port = found["ipv6"], found["host"] or "", int(found["port"])
        if port > 65535:
            self.fail(f"{text!r}: {port} is not a port (0 to 65535)", param, ctx)
        if problem := _ipv6_problem(ipv6) if ipv6 else _host_problem(host):
            self.fail(f"{text!r}: {ipv6 or host!r} {problem}", param, ctx)
        return Address(ipv6 or host, port)


def _ipv6_problem(text: str) -> str:
    try:
        IPv6Address(text)
    except AddressValueError:
        return "is not an IP address"
    return ""


def _host_problem(host: str) -> str:
    if not host:
        return ""
    if not host.rpartition(".")[2].isdigit():
        return "" if _HOST_NAME.fullmatch(host) else "is not a host name"
    try:
        IPv4Address(host)
    except AddressValueError:
        return "is not an IP address"
    return ""


class Patterns(click.ParamType[tuple[str, ...]]):
    """Resource names, in which ``*`` stands for anything, separated by commas."""

    name = "patterns"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        patterns = tuple(part.strip() for part in str(value).split(","))
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern):
                self.fail(f"{pattern!r} is not a resource name or pattern", param, ctx)
        return patterns

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class MetricNames(click.ParamType[tuple[str, ...]]):
    """A profile of metrics, and names of metrics to add or, behind a minus sign, to take away."""

    name = "metrics"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        words = tuple(part.strip() for part in str(value).split(","))
        try:
            select(words)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return words

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]


class LabelKeys(click.ParamType[tuple[str, ...]]):
    """Keys of pod labels, separated by commas."""

    name = "keys"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        keys = tuple(part.strip() for part in str(value).split(","))
        for key in keys:
            if not _LABEL_KEY.fullmatch(key):
                self.fail(f"{key!r} is not the key of a label", param, ctx)
        return keys

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]
