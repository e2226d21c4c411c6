"""Logs on standard error: exactly one line per record, as text for people or as JSON.

The subject of a record is given in ``extra`` and written as fields beside the message::

    log.warning("GPU is hung", extra={"gpu": 3, "seconds": 3.0})
    2026-11-23T10:00:00.123Z WARNING sampling: GPU is hung gpu=3 seconds=3.0
"""

import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = re.compile(r"[^\s\"'=\\]+")
_CLIENTS: Final = "exporter.web.connections"
"""The logger of what clients cause."""
_MINUTE: Final = 60.0
_MOST_KINDS: Final = 1000
"""A library may put its arguments into the message itself."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def set_up(level: str, form: str, stream: TextIO | None = None) -> None:
    """Write records of ``level`` and above to ``stream``, by default to standard error.

    Libraries write warnings alone, because aiohttp would log every scrape.
    ``form`` is ``text`` or ``json``. Replaces what was set up before.
    """
    handler = logging.StreamHandler(stream)
    handler.addFilter(OncePerMinute())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("exporter").setLevel(level.upper())
    logging.captureWarnings(capture=True)


class OncePerMinute(logging.Filter):
    """Lets one record of each kind through in a minute, of those that others can cause at any rate.

    Such are all records of libraries, and ours of what clients do. Their kind is the message before
    its arguments are put in. The next record of the kind says how many were left out, as
    ``left_out``. ``clock`` is monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._written: dict[tuple[str, str], float] = {}
        self._left_out: Counter[tuple[str, str]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("exporter.") and record.name != _CLIENTS:
            return True
        kind, now = (record.name, str(record.msg)), self._clock()
        if now - self._written.get(kind, -math.inf) < _MINUTE:
            self._left_out[kind] += 1
            return False
        if len(self._written) >= _MOST_KINDS:
            self._written.clear()
        self._written[kind] = now
        if left_out := self._left_out.pop(kind, 0):
            record.left_out = left_out
        return True


class JsonFormatter(logging.Formatter):
    """One object per line: ``ts``, ``level``, ``logger``, ``message``, fields, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        head = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": _name(record),
            "message": record.getMessage(),
        }
        # The head wins over a field of the same name. In plain ASCII, U+2028 can't break the line.
        return json.dumps(head | _fields(self, record) | head, default=str)


class TextFormatter(logging.Formatter):
    """``2026-11-23T10:00:00.123Z INFO sampling: message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_timestamp(record)} {record.levelname} {_name(record)}: "
        fields = (f" {key}={_value(value)}" for key, value in _fields(self, record).items())
        return head + _UNPRINTABLE.sub(_escape, record.getMessage()) + "".join(fields)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _name(record: logging.LogRecord) -> str:
    return record.name.removeprefix("exporter.")


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _OWN}
    if record.exc_info and record.exc_info[0]:
        fields["exception"] = formatter.formatException(record.exc_info)
    if record.stack_info:
        fields["stack"] = formatter.formatStack(record.stack_info)
    return fields


def _value(value: object) -> str:
    text = str(value)
    if _PLAIN.fullmatch(text) and not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub(_escape, json.dumps(text, ensure_ascii=False))


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
