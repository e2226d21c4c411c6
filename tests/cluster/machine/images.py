"""Images for the nodes' container runtime, as the archives that ``docker save`` writes.

The small ones are made of Debian's static busybox. The exporter's is built once as ``make image``
builds it, and kept; later runs put the program of this checkout over it as one more layer.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from exporter import REGISTRY, __version__
from setup import step
from tests.cluster.machine import places

BUSYBOX: Final = "docker.io/library/busybox:1.36"
"""Also what the examples name, which would be pulled elsewhere."""

EXPORTER: Final = f"{REGISTRY}/kube-gpu-exporter:{__version__}"
_PAUSE: Final = "localhost/pause:1"
_APPLETS: Final = ("sh", "sleep", "cat", "echo", "true", "false", "dd", "tail", "env", "kill")
_PROGRAM: Final = places.ROOT / "exporter"
_INPUTS: Final = (
    "daemonset/Dockerfile",
    "daemonset/image/root.py",
    "daemonset/image/try",
    "setup/requirements.txt",
    "setup/requirements-build.txt",
)
"""What an image is made of, beside the program."""


def small() -> list[Path]:
    """Write the images of sandboxes and of test pods; return their archives."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
    files = {"bin/busybox": busybox, "etc/passwd": b"root:x:0:0::/:/bin/sh\n", "tmp/.keep": b""}
    links = {f"bin/{applet}": "busybox" for applet in _APPLETS}
    return [
        _archive(_PAUSE, files, links, ["/bin/busybox", "sleep", "2147483647"]),
        _archive(BUSYBOX, files, links, ["/bin/sh"]),
    ]


def exporter() -> Path:
    """Return the archive of the exporter's image, with this checkout's program in it."""
    base = _built()
    target = places.WORK / "exporter.tar"
    target.parent.mkdir(parents=True, exist_ok=True)
    _with_program(base, target)
    return target


def prepare() -> None:
    """Build the image, unless one is kept. Raises :class:`SystemExit`."""
    _built()


def _built() -> Path:
    digest = hashlib.sha256()
    for name in _INPUTS:
        lines = (places.ROOT / name).read_text().splitlines()
        # Comments make no other image.
        digest.update("\n".join(line for line in lines if line.lstrip()[:1] != "#").encode())
    folder = places.kept() / "images"
    kept = folder / f"exporter-{digest.hexdigest()[:16]}.tar"
    if kept.exists():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        fresh = Path(work, "image.tar")
        try:
            step.run(
                "building the exporter's image: minutes, once",
                ["nice", "env", f"OUT={fresh}", places.ROOT / "daemonset/image/try"],
            )
        except step.StepError as error:
            raise SystemExit(str(error)) from None
        for old in folder.glob("exporter-*.tar"):
            old.unlink()
        fresh.replace(kept)
    return kept


def _with_program(base: Path, target: Path) -> None:
    """Copy an archive, with the program's folder replaced by this checkout's."""
    with tarfile.open(base) as archive:
        (manifest,) = _json(archive, "manifest.json")
        config = _json(archive, manifest["Config"])
        place = _place(archive, manifest["Layers"])
        here = "python{}.{}".format(*sys.version_info[:2])
        layer = _program_layer(place, compiled=Path(place).parents[1].name == here)
        config["rootfs"]["diff_ids"].append(f"sha256:{hashlib.sha256(layer).hexdigest()}")
        config.setdefault("history", []).append({"created_by": "the program of this checkout"})
        manifest |= {
            "Config": "config.json",
            "Layers": [*manifest["Layers"], "program.tar"],
            "RepoTags": [EXPORTER],
        }
        with tarfile.open(target, "w") as made:
            for name in dict.fromkeys(manifest["Layers"][:-1]):
                member = archive.getmember(name)
                made.addfile(member, archive.extractfile(member))
            _add(made, "program.tar", layer)
            _add(made, "config.json", json.dumps(config).encode())
            _add(made, "manifest.json", json.dumps([manifest]).encode())


def _place(archive: tarfile.TarFile, layers: Iterable[str]) -> str:
    """Return the path of the program's folder in the image."""
    for name in layers:
        content = archive.extractfile(name)
        assert content is not None
        with tarfile.open(fileobj=content) as layer:
            for member in layer:
                if member.name.endswith("/site-packages/exporter/__init__.py"):
                    return member.name.removesuffix("/__init__.py")
    raise AssertionError("there is no exporter in the image")


def _program_layer(place: str, *, compiled: bool) -> bytes:
    """Return a layer with the program, and nothing of the one below it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "exporter")
        shutil.copytree(_PROGRAM, copy, ignore=shutil.ignore_patterns("__pycache__"))
        if compiled:
            # As the image has it: it is read-only, and compiling takes a second at each start.
            command = [sys.executable, "-m", "compileall", "-q", "-s", folder, "-p", f"/{place}/.."]
            subprocess.run([*command, "--invalidation-mode=unchecked-hash", copy], check=True)
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as made:
            _add(made, f"{place}/.wh..wh..opq", b"")
            made.add(copy, place, filter=_roots)
        return layer.getvalue()


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _archive(
    name: str, files: Mapping[str, bytes], links: Mapping[str, str], entrypoint: list[str]
) -> Path:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as made:
        for path, content in files.items():
            _add(made, path, content, mode=0o755)
        for path, to in links.items():
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, to
            made.addfile(link)
    content = layer.getvalue()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    target = places.WORK / f"{name.rpartition('/')[2].partition(':')[0]}.tar"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as made:
        _add(made, "layer.tar", content)
        _add(made, "config.json", json.dumps(config).encode())
        _add(made, "manifest.json", json.dumps(manifest).encode())
    return target


def _add(archive: tarfile.TarFile, path: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def _json(archive: tarfile.TarFile, name: str) -> Any:
    content = archive.extractfile(name)
    assert content is not None
    return json.load(content)
