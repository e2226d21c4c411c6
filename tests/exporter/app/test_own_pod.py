"""Which pod the exporter takes for its own."""

from pathlib import Path

import pytest

from exporter.app.own_pod import own_pod
from exporter.kubernetes.credentials import SERVICE_ACCOUNT
from exporter.model.claims import PodName


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"HOSTNAME": "gpu-exporter-x"}, PodName("monitoring", "gpu-exporter-x")),
        ({"HOSTNAME": "node-1", "POD_NAME": "gpu-exporter-x"}, ("monitoring", "gpu-exporter-x")),
        ({"POD_NAMESPACE": "gpu", "POD_NAME": "gpu-exporter-x"}, ("gpu", "gpu-exporter-x")),
        ({}, None),
    ],
)
def test_from_the_environment_and_the_service_account(
    tmp_path: Path, environment: dict[str, str], found: tuple[str, str] | None
) -> None:
    (tmp_path / SERVICE_ACCOUNT).mkdir(parents=True)
    (tmp_path / SERVICE_ACCOUNT / "namespace").write_text("monitoring")
    assert own_pod(environment, tmp_path) == found


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_without_a_namespace_nothing_is_known(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / SERVICE_ACCOUNT).mkdir(parents=True)
        (tmp_path / SERVICE_ACCOUNT / "namespace").write_bytes(content)
    assert own_pod({"HOSTNAME": "gpu-exporter-x"}, tmp_path) is None
