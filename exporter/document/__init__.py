"""Documents that users write: the one YAML reader and the one grammar of durations."""

from exporter.document.durations import (
    UNITS_PATTERN,
    DurationError,
    format_duration,
    parse_duration,
)
from exporter.document.files import FileError, read_file
from exporter.document.reader import DocumentError, Entry, Value, did_you_mean, parse, read

__all__ = [
    "UNITS_PATTERN",
    "DocumentError",
    "DurationError",
    "Entry",
    "FileError",
    "Value",
    "did_you_mean",
    "format_duration",
    "parse",
    "parse_duration",
    "read",
    "read_file",
]
