"""The contents of a cluster for tests of `mistral-serve deploy`, and the manifests they change."""

import shutil
from pathlib import Path

from serving.deploy.lint import references
from tests.cluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
NAMESPACE = "mistral-serve"
EXAMPLE_REGISTRY = "registry.example.com"
MODEL = "mistralai/Mistral-Small-3.2-24B-Instruct-2506"
H100 = "NVIDIA-H100-80GB-HBM3"
SECRETS = tuple((name, key) for name, key in references.SECRETS.items() if name != "hf-token")
"""Those that k8s/ needs."""


def make_ready(cluster: Cluster, gpu_nodes: int = 2) -> None:
    """Gives a cluster nodes, storage, the operator and the secrets of k8s/."""
    cluster.add_storage_class()
    cluster.add_operator()
    cluster.add_node("cpu-0")
    for index in range(gpu_nodes):
        cluster.add_node(f"gpu-{index}", cpus=96, gpus=8, product=H100)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for name, key in SECRETS:
        add_secret(cluster, name, key)
    cluster.reconcile()


def add_secret(cluster: Cluster, name: str, key: str, value: str = "hush-hush") -> None:
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "stringData": {key: value},
        }
    )


def manifests(folder: Path) -> Path:
    """A copy of k8s/ to change, with images that a registry could have."""
    copy = folder / "k8s"
    shutil.copytree(K8S, copy)
    replace(copy, EXAMPLE_REGISTRY, "registry.test")
    return copy


def replace(folder: Path, old: str, new: str) -> None:
    """Replaces a text in all manifests of a folder; it must be there."""
    files = [file for file in folder.glob("*.yaml") if old in file.read_text()]
    assert files, f"no manifest has {old!r}"
    for file in files:
        file.write_text(file.read_text().replace(old, new))
