"""Facts of a cluster, written down by hand."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serving.deploy import manifests as read
from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, State
from serving.deploy.manifests import Manifests
from tests.cli.deployed import H100, K8S

Object = dict[str, Any]
MANIFESTS = read.read(K8S)
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def node(name: str, cpus: int = 96, gpus: int = 8, product: str = H100, **spec: Any) -> Object:
    amounts = {"cpu": str(cpus), "memory": "512Gi", "pods": "110", "ephemeral-storage": "500Gi"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    labels = {"nvidia.com/gpu.product": product} if gpus else {}
    ready = {"type": "Ready", "status": "True"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {"allocatable": amounts, "conditions": [ready]},
    }


def storage_class(name: str, provisioner: str, **annotations: str) -> Object:
    metadata = {"name": name, "annotations": annotations}
    return {"metadata": metadata, "provisioner": provisioner}


FACTS = Facts(
    version="v1.32.4",
    kinds={},
    deployments=[],
    namespaces=[],
    nodes=[node("gpu-0"), node("cpu-0", gpus=0)],
    pods=[],
    storage_classes=[storage_class("shared", "nfs.csi.k8s.io", **DEFAULT)],
    volume_claims=[],
    quotas=[],
    secret_keys={},
)


def having(**facts: Any) -> Facts:
    return dataclasses.replace(FACTS, **facts)


def of(state: State, findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state is state]


def with_service(folder: Path, old: str, new: str) -> Manifests:
    """The manifests with that text of the RayService replaced."""
    for file in K8S.glob("*.yaml"):
        text = file.read_text()
        if file.name == "40-rayservice.yaml":
            assert old in text
            text = text.replace(old, new)
        (folder / file.name).write_text(text)
    return read.read(folder)
