"""The driver's library in C, built for the tests, which plays a script: see ``nvml/script.h``."""

import atexit
import ctypes
import functools
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest

SOURCES = Path(__file__).parent / "nvml"
COMPILER = shutil.which("cc")
NAME = "libnvidia-ml.so.1"

needs_compiler = pytest.mark.skipif(
    COMPILER is None, reason="no C compiler: `cc` builds the driver's library for these tests"
)

Rule = tuple[str, ...]


def uuid_of(board: int) -> str:
    return f"GPU-{board:08d}-1111-2222-3333-{0:012d}"


class ScriptedNvml:
    """A node whose driver does what its script says; changes are seen by the next call.

    ``folder`` holds the library, so that ``LD_LIBRARY_PATH`` finds it there.
    """

    def __init__(self, folder: Path, boards: Sequence[int] = range(2)) -> None:
        self.folder = folder
        self.library = folder / NAME
        shutil.copy(_built(), self.library)
        self._script = folder / "script"
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._boards: tuple[int, ...] = ()
        self._xids = 0
        self.boards(*boards)

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs to load this library."""
        return {"LD_LIBRARY_PATH": str(self.folder), "SCRIPTED_NVML": str(self._script)}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the library that pynvml loads in this process."""
        monkeypatch.setenv("SCRIPTED_NVML", str(self._script))
        monkeypatch.setattr(pynvml, "CDLL", lambda name: ctypes.CDLL(str(self.folder / name)))
        monkeypatch.setattr(pynvml, "nvmlLib", None)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        monkeypatch.setattr(pynvml, "_nvmlLib_refcount", 0)

    def boards(self, *boards: int) -> None:
        """Have these boards, in the driver's order; a session sees those that it began with."""
        self._boards = boards
        self._write()

    def add(self, *words: object) -> Rule:
        """Add a line to the script."""
        rule = tuple(map(str, words))
        self._rules.append(rule)
        self._write()
        return rule

    def remove(self, *rules: Rule) -> None:
        """Take lines out of the script; without any, all that were added."""
        self._rules = [rule for rule in self._rules if rules and rule not in rules]
        self._write()

    @contextmanager
    def playing(self, *words: object) -> Iterator[None]:
        """Have a line in the script until the block ends."""
        rule = self.add(*words)
        try:
            yield
        finally:
            self.remove(rule)

    def xid(self, board: int, number: int) -> None:
        self._xids += 1
        self.add("xid", board, self._xids, number)

    def _write(self) -> None:
        with self._lock:
            lines = [("boards", *map(str, self._boards)), *self._rules]
            new = self._script.with_suffix(".new")
            new.write_text("".join(" ".join(line) + "\n" for line in lines))
            new.replace(self._script)


@functools.cache
def _built() -> Path:
    """Compile once in this process; the file goes with it."""
    folder = tempfile.mkdtemp(prefix="scripted-nvml-")
    atexit.register(shutil.rmtree, folder)
    path = Path(folder) / NAME
    command = [COMPILER or "cc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread"]
    sources = [str(SOURCES / "nvml.c"), str(SOURCES / "script.c")]
    subprocess.run([*command, "-o", str(path), *sources], check=True)
    return path


def descriptors(pid: int | str = "self") -> int:
    """Count the open file descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
