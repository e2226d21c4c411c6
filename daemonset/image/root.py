# ruff: noqa: INP001  (a script of the image's build)
"""Collect the image's root: this Python, its environment, and the shared libraries of both.

Runs in the first stage of the Dockerfile, with the environment's interpreter. What is left out
can't be misused: shell, pip, compiler, package manager, and of Python's library what only people at
a terminal and builders need.
"""

import compileall
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

OMITTED: Final = shutil.ignore_patterns(
    *("__pycache__", "site-packages", "dist-packages", "config-*", "*.a"),
    *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "venv"),
    *("_test*", "_ctypes_test*", "_xxtestfuzz*", "xxlimited*", "_tkinter*", "_sqlite3*", "sqlite3"),
    *("_curses*", "curses", "_dbm*", "_gdbm*", "readline*", "nis*", "ossaudiodev*"),
)
CACHES: Final = shutil.ignore_patterns("__pycache__", "[Aa]ctivate*")
FILES: Final = (
    "ssl/certs/ca-certificates.crt",
    # By these NVIDIA's container runtime knows where the driver's libraries go.
    *("debian_version", "os-release", "ld.so.conf", "ld.so.conf.d/*"),
)
ACCOUNTS: Final = {
    "passwd": "root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n",
    "group": "root:x:0:\nnonroot:x:65532:\n",
    "nsswitch.conf": "hosts: files dns\n",
}
_LIBRARY: Final = re.compile(r"(?:=> )?(/\S+) \(0x")


def collect(root: Path) -> None:
    """Put everything into ``root``, an empty folder or none."""
    _skeleton(root)
    standard_library, environment = Path(sysconfig.get_path("stdlib")), Path(sys.prefix)
    for tree, omitted in ((standard_library, OMITTED), (environment, CACHES)):
        shutil.copytree(tree, root / tree.relative_to("/"), symlinks=True, ignore=omitted)
    interpreter = Path(sys.executable).resolve()
    _copy(interpreter, root)
    # Links from the environment to the interpreter go by its other names.
    for name in interpreter.parent.glob("python3*"):
        if name != interpreter and name.resolve() == interpreter:
            (root / name.relative_to("/")).symlink_to(interpreter.name)
    for library in sorted(set(_libraries(_binaries(root)))):
        _copy(library, root)
    _index(root)
    _compile(root)


def _skeleton(root: Path) -> None:
    """Make the folders and files of a system that has nothing installed."""
    for folder in ("etc", "proc", "sys", "dev", "run", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    # Debian's libraries are under /usr, whatever they are called by.
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            (root / "usr" / link).mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(f"usr/{link}")
    for pattern in FILES:
        for file in Path("/etc").glob(pattern):
            _copy(file, root)
    for account, text in ACCOUNTS.items():
        (root / "etc" / account).write_text(text)


def _copy(file: Path, root: Path) -> None:
    """Copy a file to the same place, as what it is and not as a link."""
    target = root / file.parent.resolve().relative_to("/") / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def _binaries(root: Path) -> Iterator[Path]:
    """Give every program and library in ``root``, as a path of this system."""
    for file in sorted(root.rglob("*")):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as content:
                if content.read(4) == b"\x7fELF":
                    yield Path("/", file.relative_to(root))


def _libraries(binaries: Iterable[Path]) -> Iterator[Path]:
    """Give the shared libraries that programs and libraries need, the loader among them."""
    for binary in binaries:
        output = subprocess.run(  # noqa: S603
            ["ldd", binary],  # noqa: S607  (there is one ldd, in the build stage)
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        if "not found" in output:
            raise SystemExit(f"{binary} needs libraries that are missing:\n{output}")
        for found in _LIBRARY.findall(output):
            if not found.startswith(sys.prefix):
                yield Path(found)


def _index(root: Path) -> None:
    """Write the loader's index of libraries; NVIDIA's container runtime does when it adds some."""
    subprocess.run(["ldconfig", "-r", root], check=True)  # noqa: S603, S607  (as above)
    shutil.rmtree(root / "var", ignore_errors=True)  # ldconfig's notes, which contain dates


def _compile(root: Path) -> None:
    """Compile what is there, once and for all: the image is read-only when it runs.

    One file after the other: what a process has compiled before shows in what it compiles next.
    """
    compiled = compileall.compile_dir(
        root,
        maxlevels=100,
        quiet=1,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise SystemExit("not everything could be compiled")


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
