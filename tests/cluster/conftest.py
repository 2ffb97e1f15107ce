from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi

from tests.cluster.cluster import KUBECTL, Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with storage, one node without GPUs and two with eight each."""
    with Cluster(tmp_path) as made:
        made.add_storage_class()
        made.add_node("cpu-0")
        for index in range(2):
            made.add_node(f"gpu-{index}", cpus=96, gpus=8, product="NVIDIA-H100-80GB-HBM3")
        yield made


@pytest.fixture
def kubectl(cluster: Cluster) -> Cluster:
    """The cluster of `cluster`, for tests that go through kubectl."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed")
    return cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    with cluster.client() as made:
        yield made


@pytest.fixture
def core(client: Any) -> Any:
    return CoreV1Api(client)


@pytest.fixture
def custom(client: Any) -> Any:
    return CustomObjectsApi(client)
