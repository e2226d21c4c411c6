"""When certificates expire, and what is logged about it."""

import logging
import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.certificates import Validity, validity
from exporter.web.tls import Tls
from tests.doubles.certificates import OPENSSL, make_certificate, make_dated_certificate

DAY = 86_400.0


def unix(text: str) -> float:
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("begins", "expires"),
    [
        ("20200101000000Z", "20210101123456Z"),
        ("19500101000000Z", "20491231235959Z"),  # as UTCTime, which has two digits of the year
        ("19991231235959Z", "20500101000000Z"),  # as GeneralizedTime, from 2050 on
        ("20240229000000Z", "99991231235959Z"),  # RFC 5280: "no well-defined expiration date"
    ],
)
def test_the_dates_of_a_certificate_are_read(tmp_path: Path, begins: str, expires: str) -> None:
    certificate, _ = make_dated_certificate(tmp_path, "dated", begins, expires)
    assert validity(certificate.read_bytes()) == Validity(unix(begins), unix(expires))


def test_dates_are_those_that_openssl_shows(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "fresh")
    shown = subprocess.run(
        [OPENSSL, "x509", "-noout", "-enddate", "-in", certificate],
        capture_output=True,
        text=True,
        check=True,
    )
    found = validity(certificate.read_bytes())
    assert found
    assert found.expires == ssl.cert_time_to_seconds(shown.stdout.strip().partition("=")[2])


def test_a_chain_expires_with_the_first_of_its_certificates(tmp_path: Path) -> None:
    long, _ = make_dated_certificate(tmp_path, "long", "20200101000000Z", "20400101000000Z")
    short, _ = make_dated_certificate(tmp_path, "short", "20210101000000Z", "20300101000000Z")
    for chain in ((long, short), (short, long)):
        pem = b"a comment\n".join(each.read_bytes() for each in chain)
        assert validity(pem) == Validity(unix("20210101000000Z"), unix("20300101000000Z"))


def test_without_a_date_that_can_be_read_there_is_none(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path, "whole")
    der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    assert validity(b"") is None
    for cut in range(0, 120, 7):
        assert validity(ssl.DER_cert_to_PEM_cert(der[:cut]).encode()) is None


@given(st.binary(max_size=200))
def test_whatever_stands_in_a_certificate_is_no_crash(der: bytes) -> None:
    pem = ssl.DER_cert_to_PEM_cert(der).encode()
    found = validity(pem)
    assert found is None or isinstance(found.expires, float)


@pytest.mark.parametrize(
    ("lifetime_days", "left_days", "expected"),
    [
        (90, 20, ""),
        (90, 8.9, "expires at"),
        (365, 15, ""),
        (365, 13, "expires at"),
        (1, 0.2, ""),
        (1, 0.09, "expires at"),
        (90, 0, "expired at"),
        (90, -30, "expired at"),
        (90, 91, "is not valid before"),
    ],
)
def test_a_certificate_that_runs_out_is_warned_of_once_a_day(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lifetime_days: float,
    left_days: float,
    expected: str,
) -> None:
    expires = unix("20300101000000Z")
    begins = datetime.fromtimestamp(expires - lifetime_days * DAY, UTC).strftime("%Y%m%d%H%M%SZ")
    files = make_dated_certificate(tmp_path, "dated", begins, "20300101000000Z")
    now = expires - left_days * DAY
    tls = Tls(*files, clock=lambda: now)
    assert tls.expires == expires
    for _ in range(5):
        tls.look()
        now += DAY / 1000
    assert len(caplog.messages) == bool(expected)
    assert all(expected in message for message in caplog.messages)
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    if expected and left_days < 80:
        now += DAY
        tls.look()
        assert len(caplog.messages) == 2


def test_a_renewed_certificate_is_exported_and_no_more_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = make_dated_certificate(tmp_path, "a", "20200101000000Z", "20210101000000Z")
    renewed, renewed_key = make_certificate(tmp_path, "b")
    tls = Tls(certificate, key)
    tls.look()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    renewed.replace(certificate)
    renewed_key.replace(key)
    tls.look()
    tls.look()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert tls.expires
    assert tls.expires > unix("20250101000000Z")
