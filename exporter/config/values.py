"""Values that options take, beyond numbers and words: durations, addresses, patterns.

Each type turns text into a value, whichever source the text came from, and a value back into the
text that gives it.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any, Final

import click

_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_PART = re.compile(rf"({_NUMBER})(ms|[smhd])")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|[smhd]))+|{_NUMBER}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^][]+)\]|(?P<host>[^][:]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?")
_LABEL_KEY = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PATTERN = re.compile(r"[A-Za-z0-9._/*?!\[\]-]+")


def duration_text(seconds: float) -> str:
    """Write a duration in the largest unit that divides it: ``5s``, ``500ms``, ``1h``."""
    milliseconds = round(seconds * 1000)
    for unit in ("h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


class Duration(click.ParamType[float]):
    """Seconds, to the millisecond, from ``500ms``, ``5s``, ``1m30s``, ``1h`` or bare ``5``."""

    name = "duration"

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        if not _DURATION.fullmatch(text):
            self.fail(f"{text!r} is not a duration (such as 5s)", param, ctx)
        parts = _PART.findall(text) or [(text, "s")]
        seconds = round(sum(float(number) * _SECONDS[unit] for number, unit in parts), 3)
        if seconds < self.minimum:
            self.fail(f"{text!r} is shorter than {duration_text(self.minimum)}", param, ctx)
        if seconds > self.maximum:
            self.fail(f"{text!r} is longer than {duration_text(self.maximum)}", param, ctx)
        return seconds


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
        try:
            if ipv6:
                IPv6Address(ipv6)
            elif host.rpartition(".")[2].isdigit():
                IPv4Address(host)
            elif host and not _HOST_NAME.fullmatch(host):
                self.fail(f"{text!r}: {host!r} is not a host name", param, ctx)
        except AddressValueError:
            self.fail(f"{text!r}: {ipv6 or host!r} is not an IP address", param, ctx)
        return Address(ipv6 or host, port)


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
