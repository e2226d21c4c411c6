"""The reader of documents: every mistake is one line that says where it is and what it is."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.document import DocumentError, Entry, FileError, Value, parse, read, read_file


def value(text: str) -> Value:
    """Parse a document of one key, and return its value."""
    return parse("a.yaml", f"key: {text}".encode()).entry().take("key", lambda found: found)


def error_of(made: Callable[[], object]) -> str:
    with pytest.raises(DocumentError) as raised:
        made()
    return str(raised.value)


NOT_YAML = {
    b"\xff\xfe\x00": "1: not UTF-8 text",
    b"a: 1\nb: \xc3\x28": "2: not UTF-8 text",
    "a: 1\n".encode("utf-16"): "1: not UTF-8 text",
    b"a: 1\nb: \x00": "2: not YAML: it has the character U+0000",
    b"a: 1\n\nb: \x1b[31m": "3: not YAML: it has the character U+001B",
    b'a: "\\0"': r"1: not YAML: '\x00' has the character U+0000",
    b'a: 1\n"\\0": 1': r"2: not YAML: '\x00' has the character U+0000",
    b'a:\n  - "x\\ud800"': r"2: not YAML: 'x\ud800' has the character U+D800",
    b"a: [": (
        "1: not YAML: while parsing a flow node, expected the node content, but found"
        " '<stream end>'"
    ),
    b"a: b: c": "1: not YAML: mapping values are not allowed here",
    b"a: 1\n---\nb: 2": "3: not YAML: expected a single document",
    b"a: *b": "1: not YAML: *b stands for nothing yet",
    b"a: &b\n  - *b": "2: not YAML: *b stands for nothing yet",
    b"[" * 3000: "1: not YAML: it has more than 50 levels",
    b"{a: " * 3000: "1: not YAML: it has more than 50 levels",
    b"- " * 3000: "1: not YAML: it has more than 50 levels",
    b"? " * 3000: "1: not YAML: it has more than 50 levels",
    b"\n".join(b" " * n + b"a:" for n in range(3000)): "51: not YAML: it has more than 50 levels",
}


@pytest.mark.parametrize("content", NOT_YAML, ids=lambda content: repr(content[:12]))
def test_what_is_no_yaml_is_refused_with_its_line(content: bytes) -> None:
    assert error_of(lambda: parse("a.yaml", content)) == f"a.yaml:{NOT_YAML[content]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("? [1, 2]\n: 3", "1: a key has to be a word, not a list or a mapping"),
        ("a: 1\n? {b: 1}\n: 3", "2: a key has to be a word, not a list or a mapping"),
        ("a: 1\n\na: 2", "3: a: given twice, first at a.yaml:1"),
        ("'a': 1\n\"a\": 2", "2: a: given twice, first at a.yaml:1"),
        ('"a b\\e": 1\n"a b\\e": 2', r"2: 'a b\x1b': given twice, first at a.yaml:1"),
        ("- a", "1: expected a mapping of keys to values, got a list"),
        ("a", "1: expected a mapping of keys to values, got 'a'"),
        ("", "1: expected a mapping of keys to values, got nothing"),
        ("&x a: 1\n*x : 2", "1: a: given twice, first at a.yaml:1"),
    ],
)
def test_keys_are_words_and_given_once(text: str, message: str) -> None:
    assert error_of(lambda: parse("a.yaml", text.encode()).entry()) == f"a.yaml:{message}"


def finish(text: str) -> None:
    entry = parse("a.yaml", text.encode()).entry()
    for key in ("fast-interval", "node"):
        entry.get(key, Value.scalar, None)
    entry.finish("option")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("node: a\nnoed: b", "2: noed: no such option; did you mean node?"),
        ("fast_interval: 1", "1: fast_interval: no such option; did you mean fast-interval?"),
        ("zzz: 1", "1: zzz: no such option; known here: fast-interval, node"),
        ("~: 1", "1: '~': no such option; known here: fast-interval, node"),
        (f"{'x' * 500}: 1", f"1: '{'x' * 57}...': no such option; known here: fast-interval, node"),
    ],
)
def test_unknown_keys_are_refused_with_what_was_meant(text: str, message: str) -> None:
    assert error_of(lambda: finish(text)) == f"a.yaml:{message}"


READERS: dict[Callable[[Value], Any], dict[str, Any]] = {
    Value.scalar: {"on": "on", "010": "010", "''": "", "~": "~", "'a b'": "a b", "1.0": "1.0"},
    Value.text: {"a": "a", "'5'": "5", "a b": "a b"},
    Value.boolean: {"true": True, "on": True, "Yes": True, "false": False, "off": False},
    Value.count: {"1": 1, "123456789": 123456789},
    Value.index: {"0": 0, "7": 7},
    Value.number: {"0": 0, "2.5": 2.5, "1e3": 1000, ".5": 0.5, "1.": 1},
    Value.ratio: {"0": 0, "1": 1, "0.25": 0.25},
    Value.seconds: {"5s": 5, "90": 90, "'90'": 90, "1h30m": 5400, "0.5": 0.5},
}
REFUSED: dict[Callable[[Value], Any], list[str]] = {
    Value.scalar: ["[a]", "{a: b}"],
    Value.text: ["5", "1.5", "true", "~", "", "''", "[a]", "2001-01-01", "!x a"],
    Value.boolean: ["1", "'true'", "yess", "", "[]"],
    Value.count: ["0", "-1", "1.0", "'1'", "0x1", "1_0", "1:30", "9" * 5000, "!!int x", "[1]"],
    Value.index: ["-1", "+1", "a", "", "0b1", "٣"],
    Value.number: [
        "-1",
        ".inf",
        ".nan",
        "'1'",
        "1:30",
        "0x5",
        "!!float x",
        "9" * 400,
        "1e999",
        ".",
    ],
    Value.ratio: ["1.01", "-0.1", "50%", ".inf", "1e1"],
    Value.seconds: ["-5", "5 s", "", "1:30", "[5s]", "!!int x", "1e3", ".inf"],
}


@pytest.mark.parametrize(
    ("reader", "text", "expected"),
    [(reader, text, made) for reader, cases in READERS.items() for text, made in cases.items()],
)
def test_values_are_read(reader: Callable[[Value], Any], text: str, expected: object) -> None:
    found = reader(value(text))
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, float)


@pytest.mark.parametrize(
    ("reader", "text"), [(reader, text) for reader, cases in REFUSED.items() for text in cases]
)
def test_values_of_another_kind_are_refused(reader: Callable[[Value], Any], text: str) -> None:
    message = error_of(lambda: reader(value(text)))
    assert message.startswith("a.yaml:1: key: ")
    assert len(message) < 200


def test_an_empty_document_is_nothing() -> None:
    for text in ("", "# a comment\n", "---\n", "~", "null", "''", "\ufeff"):
        assert parse("a.yaml", text.encode()).is_nothing
    assert not parse("a.yaml", b"{}").is_nothing


def test_an_alias_stands_for_what_its_anchor_holds() -> None:
    root = parse("a.yaml", b"a: &x [1, 2]\nb: *x").entry()
    assert [item.count() for item in root.take("b", Value.items)] == [1, 2]


# Anything, as YAML or nearly.

_SCALARS = st.sampled_from(
    [
        "a",
        "1",
        "-1",
        "0.5",
        "5s",
        "~",
        "on",
        "'",
        '"',
        '"\\0"',
        "*a",
        "&a 1",
        "!!int x",
        "!x y",
        "|",
    ]
)
_TEXTS = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(
        st.one_of(
            _SCALARS,
            st.sampled_from(
                ["- ", "? ", ": ", "a: ", "\n", "  ", "[", "]", "{", "}", ",", "#", "%"]
            ),
        ),
        max_size=40,
    ).map(lambda parts: "".join(parts).encode()),
)


@given(_TEXTS)
def test_whatever_a_file_holds_is_read_or_refused_in_one_line(content: bytes) -> None:
    try:
        _walk(parse("a.yaml", content))
    except DocumentError as error:
        message = str(error)
        assert message.startswith("a.yaml:")
        assert message.split(":")[1].isdecimal()
        assert message.isprintable()
        assert len(message) < 1000


def _walk(found: Value) -> None:
    for reader in READERS:
        with suppress(DocumentError):
            reader(found)
    if found.is_list:
        for item in found.items():
            _walk(item)
    if found.is_mapping:
        entry = found.entry()
        assert isinstance(entry, Entry)
        for _, item in entry:
            _walk(item)
        for name, _ in entry:
            entry.get(name, Value.scalar if entry.has(name) else Value.text, None)


# Files.


def special_files(folder: Path) -> dict[Path, str]:
    """One of each kind of thing that has a name and is no file, with what is said about it."""
    pipe, listening, loop = folder / "pipe", folder / "socket", folder / "loop"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(listening))
    loop.symlink_to(loop)
    large = folder / "large"
    with large.open("wb") as file:
        file.truncate(2**40)
    return {
        folder: "Is a directory",
        pipe: "it is a pipe, not a file",
        listening: "it is a socket, not a file",
        Path("/dev/zero"): "it is a device, not a file",
        Path("/dev/null"): "it is a device, not a file",
        loop: "Too many levels of symbolic links",
        large: "it is larger than 1024 KiB",
        folder / "absent": "No such file or directory",
        folder / ("x" * 300): "File name too long",
        folder / "a\0b": "its name has a NUL character in it",
        Path("/proc/self/mem"): "Input/output error",
    }


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    for path, reason in special_files(tmp_path).items():
        with pytest.raises(FileError) as raised:
            read_file(path)
        assert str(raised.value) == reason
        with pytest.raises(DocumentError) as explained:
            read(path)
        assert str(explained.value) == f"{path}: cannot be read: {reason}"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in special_files(tmp_path):
        with pytest.raises(FileError):
            read_file(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_to_a_file_is_read_as_kubernetes_mounts_them(tmp_path: Path) -> None:
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data/a.yaml").write_text("a: 1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert read(tmp_path / "a.yaml").entry().take("a", Value.count) == 1


def test_the_yaml_library_is_loaded_by_the_first_document_alone() -> None:
    code = "import sys, exporter.document as d; print('yaml' in sys.modules);"
    code += "d.parse('a', b''); print('yaml' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == ["False", "True"]
