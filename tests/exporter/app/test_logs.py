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


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncio", "exporter.web.connections"])
def test_what_others_cause_is_written_once_a_minute_and_kind(name: str) -> None:
    now = 0.0
    once_per_minute = logs.OncePerMinute(clock=lambda: now)

    def is_written(message: str, *args: object) -> bool:
        record = logging.LogRecord(name, logging.ERROR, "f.py", 1, message, args, None)
        return once_per_minute.filter(record)

    assert is_written("request from %s", "10.0.0.1")
    assert not any(is_written("request from %s", f"10.0.0.{n}") for n in range(100))
    assert is_written("another kind")
    now = 59.9
    assert not is_written("request from %s", "10.0.0.1")
    now = 60.1
    record = logging.LogRecord(name, logging.ERROR, "f.py", 1, "request from %s", ("x",), None)
    assert once_per_minute.filter(record)
    assert vars(record)["left_out"] == 101
    now = 121.0
    assert is_written("request from %s", "10.0.0.1")


def test_what_the_program_says_of_the_node_is_written_each_time(written: Written) -> None:
    stream = written("text")
    for _ in range(3):
        log.warning("GPU is hung", extra={"gpu": 3})
    assert len(stream.getvalue().splitlines()) == 3


def test_messages_without_end_take_no_memory_without_end() -> None:
    once_per_minute = logs.OncePerMinute(clock=lambda: 0.0)
    for number in range(5000):
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, f"message {number}", (), None)
        assert once_per_minute.filter(record)
    assert len(once_per_minute._written) <= 1000
