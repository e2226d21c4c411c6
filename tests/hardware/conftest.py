"""Tests for a machine with an NVIDIA GPU, collected only when asked for by their marker."""

from collections.abc import Iterator

import pytest

from exporter.gpus import GpuError
from exporter.gpus.nvml import NvmlBackend


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return True if "hardware" not in config.option.markexpr else None


@pytest.fixture(scope="session")
def backend() -> Iterator[NvmlBackend]:
    backend = NvmlBackend()
    try:
        backend.open()
    except GpuError as error:
        pytest.skip(f"no NVIDIA driver: {error}")
    yield backend
    backend.close()
