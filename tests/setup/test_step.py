"""What the set-up shows while it works, and when it can't."""

import io
import sys
from pathlib import Path

import pytest

from setup import packages, step

PIP_OFFLINE = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object>\
: Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/click/
ERROR: Could not find a version that satisfies the requirement click==8.5.1 (from versions: none)
ERROR: No matching distribution found for click==8.5.1"""
NPM_OFFLINE = """\
npm error code EAI_AGAIN
npm error syscall getaddrinfo
npm error request to https://index.example/typescript failed, reason: getaddrinfo EAI_AGAIN"""
GO_OFFLINE = """\
github.com/rhysd/actionlint: Get "https://proxy.example/x.mod": dial tcp: lookup proxy.example: \
no such host"""
TAMPERED = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.
    click==8.5.1: Expected sha256 aa, Got bb"""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (PIP_OFFLINE, "Name or service not known"),
        (NPM_OFFLINE, "EAI_AGAIN"),
        (GO_OFFLINE, "no such host"),
    ],
)
def test_without_a_network_one_line_says_so(output: str, cause: str) -> None:
    assert step.explain("installing 33 packages", output.splitlines()) == (
        "no network: installing 33 packages needs packages, and their index does not answer"
        f" ({cause})"
    )


@pytest.mark.parametrize("output", [TAMPERED, f"{PIP_OFFLINE}\n{TAMPERED}", "error: disk full"])
def test_what_else_goes_wrong_is_said_in_the_commands_own_words(output: str) -> None:
    explained = step.explain("installing", output.splitlines())
    assert explained.endswith(f"{output.splitlines()[-1]}\ninstalling failed")
    assert "no network" not in explained


def test_a_step_is_one_line_where_nobody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    step.run("making", [sys.executable, "-c", "print('noise')"], progress=lambda line: line)
    assert capfd.readouterr() == ("", "making\n")


def test_on_a_terminal_the_line_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    step.run("making", [sys.executable, "-c", "print('half')"], progress=str.strip)
    assert screen.getvalue() == "making\r\033[Kmaking: half\r\033[Kmaking\n"


def test_a_command_that_fails_shows_what_it_said(capfd: pytest.CaptureFixture[str]) -> None:
    code = step.main(["making", sys.executable, "-c", "import sys; sys.exit('it is broken')"])
    assert code == 1
    assert capfd.readouterr() == ("", "making\nit is broken\nmaking failed\n")


def test_packages_are_counted_once_each() -> None:
    progress = packages.counted(2)
    assert progress("Collecting click==8.5.1 (from -r setup/requirements.txt (line 3))\n") == (
        "1/2 click"
    )
    assert progress("  Downloading click-8.5.1-py3-none-any.whl (1.7 MB)\n") is None
    assert progress("Requirement already satisfied: PyYAML==6.0.3 in x\n") == "2/2 PyYAML"
    assert progress("Collecting click==8.5.1\n") == "2/2 click"
    assert progress(PIP_OFFLINE) == "no answer from the package index, trying again"
    assert progress("Installing collected packages: click, pyyaml\n") == "all there, unpacking"


def test_pip_without_a_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(f"no-such-package-of-ours==1.0 --hash=sha256:{'0' * 64}\n")
    # A port of this machine at which no server listens, and two tries.
    for name, value in (("INDEX_URL", "http://127.0.0.1:9/simple"), ("RETRIES", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert packages.main([str(file)]) == 1
    shown = capfd.readouterr().err.splitlines()
    assert shown[0] == f"installing 1 packages of {file}"
    assert shown[1].startswith("no network: ")
    assert len(shown) == 2
