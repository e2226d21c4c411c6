"""Files that no program could use end it with exit code 2 and one line, wherever they are given."""

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from exporter.app import cli
from exporter.app.exits import ExitCode


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


FILES: Mapping[str, tuple[bytes | Callable[[Path], None], str]] = {
    "deep": (b"[" * 3000, ":1: not YAML: it has more than 50 levels"),
    "deep mapping": (b"{a: " * 3000, ":1: not YAML: it has more than 50 levels"),
    "key that is a list": (b"? [1, 2]\n: 3", ":1: a key has to be a word, not a list or a mapping"),
    "NUL": (b"a: \x00", ":1: not YAML: it has the character U+0000"),
    "escaped NUL": (b'\n"\\u0000": 1', r":2: not YAML: '\x00' has the character U+0000"),
    "latin-1": (b"a: 1\nb: \xe9\n", ":2: not UTF-8 text"),
    "unknown key": (b"\n\nzzz: 1", ":3: zzz: no such "),
    "key given twice": (b"zzz: 1\nzzz: 1", ":2: zzz: given twice, first at "),
    "list": (b"- a", ":1: expected a mapping of keys to values, got a list"),
    "number": (b"1", ":1: expected a mapping of keys to values, got '1'"),
    "open quote": (b'a: "', ":1: not YAML: while scanning a quoted scalar, found unexpected end"),
    "tab": (b"a:\n\t- b", ":2: not YAML: while scanning for the next token, found character"),
    "undefined alias": (b"a: *b", ":1: not YAML: *b stands for nothing yet"),
    "huge": (lambda path: os.truncate(_touched(path), 2**33), "it is larger than 1024 KiB"),
    "pipe": (os.mkfifo, "it is a pipe, not a file"),
    "folder": (Path.mkdir, "Is a directory"),
    "socket": (_bind, "it is a socket, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "loop": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "dangling": (lambda path: path.symlink_to("gone"), "No such file or directory"),
}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["serve", "--listen", "127.0.0.1:0", *arguments]) == ExitCode.USAGE
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("kube-gpu-exporter: error: ")
    assert line.isprintable()
    return line.removeprefix("kube-gpu-exporter: error: ")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("GPU_EXPORTER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "arguments", [("--config", "f.yaml"), ("--backend=simulated", "--scenario", "f.yaml")]
)
def test_a_file_that_can_t_be_used_is_refused_in_one_line(
    arguments: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = FILES[name]
    path = Path("f.yaml")
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    line = refused(capsys, *arguments)
    assert message in line
    assert "f.yaml" in line


@pytest.mark.parametrize("key", ["kubelet-socket", "tls-cert", "tls-key", "basic-auth-users"])
def test_a_path_with_a_nul_character_is_refused(
    key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f.yaml").write_text(f'{key}: "a\\u0000"')
    assert refused(capsys, "--config", "f.yaml") == (
        r"f.yaml:1: not YAML: 'a\x00' has the character U+0000"
    )


def test_a_taken_port_is_refused_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = refused(capsys, "--listen", address)
    assert line == (
        f"listen: {address}: Address already in use; to take another: --listen 127.0.0.1:9400"
    )
