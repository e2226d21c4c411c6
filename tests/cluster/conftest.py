"""Tests on a real Kubernetes, collected only when asked for by their marker."""

from pathlib import Path

import pytest

from tests.cluster.machine import places
from tests.cluster.machine.cluster import Cluster


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return True if "cluster" not in config.option.markexpr else None


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if not Path(places.WORK, "launcher").exists():
        pytest.fail("a cluster runs in namespaces of its own: make test-cluster")
    cluster = Cluster()
    cluster.start()
    return cluster
