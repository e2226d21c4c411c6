"""Accept and Accept-Encoding, by weights, for every client that was ever seen and for odd ones."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.exposition import Format
from exporter.web.negotiation import accepts_gzip, negotiate_format

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
UNDERSCORES = f"{OPENMETRICS}; escaping=underscores"

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    f"q=0.7,{PROMETHEUS_3}"
)
PROMETHEUS_3_TEXT = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.5,*/*;q=0.2"
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        # Clients.
        ("", PLAIN),
        ("*/*", PLAIN),
        (FIREFOX, PLAIN),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (PROMETHEUS_3_PROTOBUF, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (PROMETHEUS_3_TEXT, f"{TEXT_1}; escaping=allow-utf-8"),
        ("text/plain", PLAIN),
        ("text/plain;version=0.0.4;charset=utf-8", PLAIN),
        ("text/plain;version=1.0.0", TEXT_1),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        # Weights.
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", PLAIN),
        ("text/plain;q=0.1,application/openmetrics-text;q=0.9", OPENMETRICS),
        ("application/openmetrics-text;q=0,text/plain", PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=0.000", PLAIN),
        ("application/openmetrics-text;q=0,*/*", PLAIN),
        ("application/openmetrics-text;q=0.2,*/*;q=0.5", PLAIN),
        ("text/plain;q=0,*/*", OPENMETRICS),
        ("text/*;q=0,*/*;q=0.1", OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("application/*;q=0.3,text/*;q=0.4", PLAIN),
        ("*/*;q=0", PLAIN),
        ("text/plain,application/openmetrics-text", OPENMETRICS),
        # Precedence is by precision, not by place: RFC 9110, 12.5.1.
        ("*/*;q=1,application/openmetrics-text;q=0", PLAIN),
        ("text/plain;version=1.0.0;q=0,text/plain;q=0.3", PLAIN),
        # Case, space, quotes, empty elements and parameters.
        ("Application/OpenMetrics-Text; Version=1.0.0; Q=1.0", OPENMETRICS),
        ('application/openmetrics-text;version="1.0.0"', OPENMETRICS),
        (" , ,application/openmetrics-text ;; version=1.0.0;q=.5 ,", OPENMETRICS),
        # Versions that are not ours are never given back.
        ("application/openmetrics-text;version=9.9.9", PLAIN),
        ("application/openmetrics-text;version=abc", PLAIN),
        ("application/openmetrics-text;version=", PLAIN),
        ("application/openmetrics-text;version=2.0.0", PLAIN),
        ("text/plain;version=7", PLAIN),
        ("application/openmetrics-text;version=0.0.1", PLAIN),
        ("application/openmetrics-text;version=1.0.0;escaping=dots", UNDERSCORES),
        ("application/openmetrics-text;version=1.0.0;escaping=x;q=1", UNDERSCORES),
        # What is no element is passed over.
        ("application/openmetrics-text;q=2", PLAIN),
        ("application/openmetrics-text;q=-1", PLAIN),
        ("application/openmetrics-text;q=nan", PLAIN),
        ("application/openmetrics-text;q=1e0", PLAIN),
        ("application/openmetrics-text;q", PLAIN),
        ("application/openmetrics-text;version=1.0.0\x00", PLAIN),
        ("application/", PLAIN),
        ("//", PLAIN),
        (";;;", PLAIN),
        (",,,", PLAIN),
        ("=", PLAIN),
        ("é", PLAIN),
        ('"', PLAIN),
        ("image/png", PLAIN),
        ("application/openmetrics-text;q=abc,application/openmetrics-text;q=0.4", OPENMETRICS),
    ],
)  # fmt: skip
def test_the_format_is_the_one_that_the_client_weighs_highest(accept: str, expected: str) -> None:
    form, content_type = negotiate_format(accept)
    assert content_type == expected
    assert form is (Format.OPENMETRICS if "openmetrics" in expected else Format.TEXT)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate", True),
        ("gzip, deflate, br, zstd", True),
        ("x-gzip", True),
        ("GZIP;Q=0.1", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.0, *", False),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("identity", False),
        ("identity;q=0.5, gzip;q=0.2", False),
        ("identity;q=0.2, gzip;q=0.5", True),
        ("identity;q=0", False),
        ("deflate", False),
        ("gzipped", False),
        ("gzip;q=2", False),
        ("gzip;x", False),
        ("gzip gzip", False),
    ],
)
def test_gzip_is_used_where_the_client_would_rather_have_it(
    accept_encoding: str, *, expected: bool
) -> None:
    assert accepts_gzip(accept_encoding) is expected


_PIECES = st.sampled_from(
    [
        *("application/openmetrics-text", "text/plain", "*/*", "text/*", "gzip", "identity", "*"),
        *(";", ",", "=", "q", "q=", "0.5", "1", "version=1.0.0", "escaping=dots", '"', " ", "/"),
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=30).map("".join)))
def test_any_header_is_answered_with_a_type_of_ours(header: str) -> None:
    form, content_type = negotiate_format(header)
    assert re.fullmatch(
        r"(text/plain; version=(0\.0\.4|1\.0\.0)|application/openmetrics-text; version=1\.0\.0)"
        r"; charset=utf-8(; escaping=(underscores|allow-utf-8))?",
        content_type,
    )
    assert (form is Format.OPENMETRICS) == content_type.startswith("application")
    assert accepts_gzip(header) in {True, False}


@given(
    st.permutations(
        [f"text/plain;q={q}" for q in ("0.1", "0.2")] + ["application/openmetrics-text;q=0.15"]
    )
)
def test_the_order_of_elements_does_not_matter(elements: list[str]) -> None:
    assert negotiate_format(",".join(elements))[1] == PLAIN


def test_a_header_of_any_length_is_read_in_no_time() -> None:
    long = "a/b;q=0.5;" * 10 + ("," * 200_000)
    assert negotiate_format(long)[1] == PLAIN
    assert negotiate_format("," * 500 + "application/openmetrics-text")[1] == PLAIN
