"""The Python stubs of the kubelet's APIs, made from their official protos."""

import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]  # ships no types

_ROOT = Path(__file__).resolve().parent.parent
_PROTOS = (
    Path("exporter/kubelet/podresources/v1/api.proto"),
    Path("exporter/kubelet/deviceplugin/v1beta1/api.proto"),
)


def generate() -> dict[Path, bytes]:
    """Return the content of each stub by its absolute path; write nothing.

    The result depends on the protos and on the locked versions of grpcio-tools and mypy-protobuf.
    Raises ``RuntimeError`` when protoc refuses.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(
            [
                "protoc",
                f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
                # From the root, so that the stubs import each other by their full names.
                f"--proto_path={_ROOT}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                f"--mypy_out=quiet:{folder}",
                f"--mypy_grpc_out=quiet:{folder}",
                *map(str, _PROTOS),
            ]
        )
        if status:
            raise RuntimeError(f"protoc ended with {status} on {', '.join(map(str, _PROTOS))}")
        made = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {_ROOT / path.relative_to(folder): path.read_bytes() for path in made}
