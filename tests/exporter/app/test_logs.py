"""Logs: one line per record, whatever is in it."""

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator

import pytest

from exporter.app import logs

log = logging.getLogger("exporter.sampling")
NASTY = "a\nb\r\x0b\x0c\x1c\x85\u2028c\x1b[31m"


@pytest.fixture
def written() -> Iterator[Callable[..., io.StringIO]]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def set_up(form: str, level: str = "debug") -> io.StringIO:
        stream = io.StringIO()
        logs.set_up(level, form, stream)
        return stream

    yield set_up
    logging.captureWarnings(capture=False)
    logging.getLogger("exporter").setLevel(logging.NOTSET)
    root.handlers[:] = before
    root.setLevel(level)


Written = Callable[..., io.StringIO]


def test_text(written: Written) -> None:
    stream = written("text")
    log.info("read %d GPUs", 8, extra={"seconds": 0.5, "why": "first read", "empty": ""})
    line = stream.getvalue()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO sampling: read 8 GPUs"
        r' seconds=0\.5 why="first read" empty=""\n',
        line,
    )


def test_json(written: Written) -> None:
    stream = written("json")
    log.info("read %d GPUs", 8, extra={"seconds": 0.5, "path": io, "level": "mine"})
    record = json.loads(stream.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("ts"))
    assert record == {
        "level": "info",
        "logger": "sampling",
        "message": "read 8 GPUs",
        "seconds": 0.5,
        "path": str(io),
    }


def test_time_is_utc(written: Written) -> None:
    stream = written("json")
    record = logging.LogRecord("exporter", logging.INFO, "", 0, "x", None, None)
    record.created = 1795428000.123
    logging.getLogger("exporter").handle(record)
    assert json.loads(stream.getvalue())["ts"] == "2026-11-23T10:00:00.123Z"


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_one_line(form: str, written: Written) -> None:
    stream = written(form)
    log.warning("%s", NASTY, extra={"text": NASTY, "quote": 'say "x=1"'}, stack_info=True)
    try:
        raise ValueError(NASTY)  # noqa: TRY301
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "\x1b" not in stream.getvalue()
    assert "ValueError" in lines[1]
    assert "Traceback" in lines[1]


def test_an_exception_is_one_string_of_json(written: Written) -> None:
    stream = written("json")
    try:
        raise ValueError("broken")  # noqa: TRY301
    except ValueError:
        log.exception("failed")
    exception = json.loads(stream.getvalue())["exception"]
    assert exception.startswith("Traceback")
    assert exception.endswith("ValueError: broken")


def test_level_holds_for_us_and_libraries_only_warn(written: Written) -> None:
    stream = written("text", level="info")
    log.debug("too much")
    log.info("ours")
    logging.getLogger("aiohttp.access").info("GET /metrics")
    logging.getLogger("asyncio").warning("slow")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "INFO sampling: ours",
        "WARNING asyncio: slow",
    ]


def test_warnings_are_records(written: Written) -> None:
    stream = written("text")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", stacklevel=1)
        logging.captureWarnings(capture=False)
    (line,) = stream.getvalue().splitlines()
    assert " WARNING py.warnings: " in line
    assert "old thing" in line


def test_set_up_again_replaces(written: Written) -> None:
    first, second = written("text"), written("text")
    log.info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1
