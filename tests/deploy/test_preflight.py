"""serving/deploy/preflight.py and its checks, of facts written down by hand."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from serving.deploy import manifests as read
from serving.deploy.capacity import nodes
from serving.deploy.facts import Facts, Right
from serving.deploy.finding import Finding, State
from serving.deploy.gpus import gpu_types
from serving.deploy.manifests import Manifests
from serving.deploy.prerequisites import kubernetes_version, operator
from serving.deploy.quotas import quotas
from serving.deploy.rights import rights
from serving.deploy.storage import storage
from tests.cli.deployed import H100, K8S, NAMESPACE

Object = dict[str, Any]
MANIFESTS = read.read(K8S)
DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}


def node(name: str, cpus: int = 96, gpus: int = 8, product: str = H100, **spec: Any) -> Object:
    amounts = {"cpu": str(cpus), "memory": "512Gi", "pods": "110"}
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


def test_room_for_all_and_for_an_upgrade_is_good() -> None:
    found = list(nodes(MANIFESTS, FACTS))
    assert {finding.state for finding in found} == {State.ok}


def test_gpus_that_others_use_are_not_free_and_our_own_are() -> None:
    busy = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "6"}}}], "nodeName": "gpu-0"}
    ours = {"namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "mistral-serve"}}

    def with_pod(metadata: Object) -> Facts:
        pod = {"metadata": metadata, "spec": busy, "status": {"phase": "Running"}}
        return having(pods=[pod])

    (short,) = of(State.missing, nodes(MANIFESTS, with_pod({"namespace": "other"})))
    assert short.subject == "GPUs"
    assert "1 of 2 engine (8 cpu, 48 GiB memory, 2 nvidia.com/gpu each)" in short.message
    assert of(State.missing, nodes(MANIFESTS, with_pod(ours))) == []


@pytest.mark.parametrize(
    "spec",
    [{"unschedulable": True}, {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]}],
)
def test_nodes_that_take_none_of_our_pods_do_not_count(spec: Object) -> None:
    closed = having(nodes=[node("gpu-0", **spec), node("cpu-0", gpus=0)])
    assert [finding.subject for finding in of(State.missing, nodes(MANIFESTS, closed))] == ["GPUs"]


def test_gpus_for_one_cluster_alone_are_a_caution_for_upgrades(tmp_path: Path) -> None:
    small = having(nodes=[node("gpu-0", gpus=4), node("cpu-0", gpus=0)])
    (caution,) = of(State.caution, nodes(MANIFESTS, small))
    assert "no room for 2 of 2 engine pods of 2 GPUs" in caution.message
    in_place = with_service(tmp_path, "type: NewCluster", 'type: "None"')
    assert of(State.caution, nodes(in_place, small)) == []


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        ({"nvidia.com/gpu.product": H100, "nvidia.com/gpu.memory": "81559"}, True),
        ({"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.memory": "46068"}, False),
        ({"nvidia.com/gpu.product": "NVIDIA-L40S"}, True),
    ],
)
def test_gpus_must_have_the_memory_that_the_config_counts_with(
    labels: dict[str, str], fits: bool
) -> None:
    gpu = node("gpu-0")
    gpu["metadata"]["labels"] = labels
    found = of(State.missing, gpu_types(MANIFESTS, having(nodes=[gpu])))
    assert (found == []) is fits


def test_a_config_that_is_none_is_named_by_its_field(tmp_path: Path) -> None:
    wrong = with_service(tmp_path, "variant: bf16-tp2", "variant: bf17")
    (found,) = of(State.missing, gpu_types(wrong, FACTS))
    assert "models.0.variant: unknown variant 'bf17'" in found.message


def test_a_quota_of_the_cluster_is_mended_by_a_patch() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"requests.nvidia.com/gpu": "3"}}}
    (found,) = of(State.missing, quotas(MANIFESTS, having(quotas=[quota])))
    assert "team allows 3 of requests.nvidia.com/gpu and 4 are needed" in found.message
    assert found.fix[0].startswith(f"kubectl -n {NAMESPACE} patch quota team")


def test_a_quota_without_room_for_a_second_cluster_is_a_caution() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"requests.nvidia.com/gpu": "6"}}}
    (found,) = of(State.caution, quotas(MANIFESTS, having(quotas=[quota])))
    assert "an upgrade with a second cluster needs 8" in found.message


def test_disks_of_one_node_do_not_do_for_the_models() -> None:
    disks = having(storage_classes=[storage_class("gp3", "ebs.csi.aws.com", **DEFAULT)])
    (found,) = of(State.missing, storage(MANIFESTS, disks))
    assert found.message.startswith("claim models is ReadWriteMany, and storage class gp3")


def test_a_claim_that_is_bound_needs_no_class() -> None:
    bound = [{"metadata": {"name": name}, "status": {"phase": "Bound"}} for name in ("models",)]
    found = of(State.missing, storage(MANIFESTS, having(storage_classes=[], volume_claims=bound)))
    assert [finding.message.split()[1] for finding in found] == ["data"]


@pytest.mark.parametrize(
    ("version", "state"),
    [("v1.28.9", State.missing), ("v1.29.0-eks-1", State.ok), ("v2.0.0", State.ok)],
)
def test_old_clusters_are_told(version: str, state: State) -> None:
    assert kubernetes_version(having(version=version)).state is state


def test_an_operator_that_is_down_is_told_with_what_to_look_at() -> None:
    labels = {"app.kubernetes.io/name": "kuberay-operator"}
    spec = {"containers": [{"image": "quay.io/kuberay/operator:v1.7.0"}]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    down = {
        "metadata": {"name": "kuberay-operator", "namespace": "kuberay-system"},
        "spec": {"template": template},
        "status": {},
    }
    found = operator(MANIFESTS, having(deployments=[down]))
    assert found.state is State.missing
    assert "has no running pod" in found.message
    assert "describe pods" in found.fix[0]
    up = down | {"status": {"availableReplicas": 1}}
    assert operator(MANIFESTS, having(deployments=[up])).state is State.ok


def test_rights_are_asked_for_place_by_place() -> None:
    denied = (
        Right("create", "ray.io", "rayservices", NAMESPACE),
        Right("patch", "ray.io", "rayservices", NAMESPACE),
        Right("get", "", "pods/log", NAMESPACE),
        Right("create", "", "namespaces"),
    )
    here, cluster = rights(having(denied=denied))
    assert here.message == (
        f"missing in {NAMESPACE}: get pods/log; create, patch rayservices.ray.io"
    )
    assert here.fix[0].startswith(f"kubectl create role mistral-serve-deployer -n {NAMESPACE} ")
    assert cluster.fix[0].startswith("kubectl create clusterrole mistral-serve-deployer --verb")
