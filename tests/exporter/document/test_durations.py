"""The grammar of durations: what it takes, what it refuses, and that both ways agree."""

import re

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.document import UNITS_PATTERN, DurationError, format_duration, parse_duration

SECONDS = {"y": 31_536_000, "w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1, "ms": 0.001}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("90s", 90),
        ("1m", 60),
        ("1h", 3600),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1m30s", 90),
        ("1h0m1s", 3601),
        ("1d12h", 129_600),
        ("1s1ms", 1.001),
        ("5", 5),
        ("90", 90),
        ("0.25", 0.25),
        ("1.5", 1.5),
        ("0", 0),
        ("0s", 0),
        ("007s", 7),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "5 s", " 5s", "5s ", "5s\n", "5S", "1M", "1e3", "5s5", "5min", "nan", "inf"),
        *("+5s", "-5s", "٣s", "٣", "1_000", "0x5", "1:30", ".5", "5.", "1,5s", "1h,30m"),
        *("9" * 5000, "9" * 5000 + "s", "0.0001", "\0", "5s\0", "🕐"),
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(DurationError, match=r"is not a duration \(such as 5s\)$") as raised:
        parse_duration(text)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "instead"),
    [("1.5m", "90s"), ("30s1m", "90s"), ("1m1m", "2m"), ("1.5s", "1500ms"), ("1s1h", "3601s")],
)
def test_what_is_nearly_a_duration_is_refused_with_what_to_write(text: str, instead: str) -> None:
    with pytest.raises(DurationError) as raised:
        parse_duration(text)
    assert str(raised.value) == f"{text!r} is not a duration (write {instead})"
    assert parse_duration(instead) > 0


@st.composite
def written(draw: st.DrawFn) -> tuple[str, float]:
    """Make a text of the grammar, and its seconds by counting up the units."""
    units = draw(st.lists(st.sampled_from(list(SECONDS)), min_size=1, unique=True))
    numbers = {unit: draw(st.integers(0, 999_999_999)) for unit in units}
    ordered = [unit for unit in SECONDS if unit in numbers]
    milliseconds = sum(numbers[unit] * round(SECONDS[unit] * 1000) for unit in ordered)
    return "".join(f"{numbers[unit]}{unit}" for unit in ordered), milliseconds / 1000


@given(written())
def test_a_duration_is_the_sum_of_its_units(made: tuple[str, float]) -> None:
    text, seconds = made
    assert parse_duration(text) == seconds


@given(st.integers(min_value=0, max_value=10**12))
def test_what_is_formatted_is_read_as_the_same_duration(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    text = format_duration(seconds)
    assert re.fullmatch(r"[0-9]+(ms|s|m|h)", text)
    if len(text) <= 9:
        assert parse_duration(text) == seconds


def whole(pattern: str) -> str:
    return f"^({pattern})$"


@given(st.one_of(st.text(), st.text(alphabet="0123456789.ywdhms "), st.from_regex(UNITS_PATTERN)))
@example("5s\n")
def test_the_pattern_for_schemas_takes_what_the_reader_takes_in_units(text: str) -> None:
    try:
        parse_duration(text)
    except DurationError:
        is_read = False
    else:
        is_read = any(character.isalpha() for character in text)
    # Python's $ also matches before a last line feed; ECMAScript's, which schemas mean, does not.
    assert is_read == bool(text and re.fullmatch(UNITS_PATTERN, text))


def test_the_pattern_is_one_that_a_json_schema_takes() -> None:
    schema = {"type": "string", "pattern": whole(UNITS_PATTERN)}
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate("1h30m", schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("30m1h", schema)
