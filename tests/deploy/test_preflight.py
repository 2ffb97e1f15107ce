"""What a cluster must have besides room: versions, storage, images, a reachable API, rights."""

import copy
from pathlib import Path

import pytest

from serving.deploy.facts import Right
from serving.deploy.finding import State
from serving.deploy.manifests import Manifests
from serving.deploy.prerequisites import images, kubernetes_version, runtime
from serving.deploy.reach import api_server
from serving.deploy.rights import rights
from serving.deploy.storage import storage
from tests.cli.deployed import NAMESPACE
from tests.deploy.facts import (
    DEFAULT,
    FACTS,
    MANIFESTS,
    having,
    node,
    of,
    storage_class,
    with_service,
)


@pytest.mark.parametrize(
    "provisioner",
    [
        "ebs.csi.aws.com",
        "ebs.csi.eks.amazonaws.com",
        "rook-ceph.rbd.csi.ceph.com",
        "csi.vsphere.vmware.com",
        "topolvm.io",
        "rancher.io/local-path",
        "kubernetes.io/gce-pd",
    ],
)
def test_disks_of_one_node_do_not_do_for_the_models(provisioner: str) -> None:
    disks = having(storage_classes=[storage_class("gp3", provisioner, **DEFAULT)])
    (found,) = of(State.missing, storage(MANIFESTS, disks))
    assert found.message.startswith("claim models is ReadWriteMany, and storage class gp3")


@pytest.mark.parametrize(
    ("policy", "state"), [("ReadWriteOnceWithFSType", State.caution), ("File", State.ok)]
)
def test_a_file_system_that_ignores_the_group_of_pods_is_a_caution(
    policy: str, state: State
) -> None:
    driver = {"metadata": {"name": "nfs.csi.k8s.io"}, "spec": {"fsGroupPolicy": policy}}
    found = next(storage(MANIFESTS, having(csi_drivers=[driver])))
    assert found.state is state


def test_images_that_a_node_has_need_no_registry() -> None:
    found = images(MANIFESTS, FACTS)
    assert found.state is State.missing
    (command,) = [line for line in found.fix if "kind load docker-image" in line]
    loaded = node("kind-control-plane")
    loaded["status"]["images"] = [{"names": [name]} for name in command.split() if "/" in name]
    assert images(MANIFESTS, having(nodes=[loaded])).state is State.ok


def test_images_of_no_registry_must_be_on_a_node() -> None:
    objects = copy.deepcopy(MANIFESTS.of_kind("Job"))
    (container,) = objects[0]["spec"]["template"]["spec"]["containers"]
    container["image"] = "localhost/mistral-serve-cpu:0.1.0"
    local = Manifests("", tuple(objects))
    assert images(local, FACTS).message.startswith("no node has localhost/mistral-serve-cpu")
    loaded = node("kind-control-plane")
    loaded["status"]["images"] = [{"names": [container["image"]]}]
    assert images(local, having(nodes=[loaded])).state is State.ok


def test_k3s_and_rke2_want_a_runtime_class_that_exists(tmp_path: Path) -> None:
    for version, states in (
        ("v1.33.1+k3s1", [State.caution]),
        ("v1.33.1+rke2r1", [State.caution]),
        ("v1.33.1", []),
    ):
        facts = having(version=version, runtime_classes=[])
        assert [finding.state for finding in runtime(MANIFESTS, facts)] == states
    tolerations = "            tolerations:\n"
    named = with_service(
        tmp_path, tolerations, f"            runtimeClassName: nvidia\n{tolerations}"
    )
    assert [each.state for each in runtime(named, having(runtime_classes=[]))] == [State.missing]
    nvidia = {"metadata": {"name": "nvidia"}}
    there = having(version="v1.33.1+k3s1", runtime_classes=[nvidia])
    assert list(runtime(named, there)) == []


@pytest.mark.parametrize(("port", "reached"), [(6443, True), (16443, True), (7443, False)])
def test_the_api_server_must_be_on_a_port_that_the_head_reaches(port: int, reached: bool) -> None:
    endpoints = {
        "addressType": "IPv4",
        "ports": [{"port": port}],
        "endpoints": [{"addresses": ["192.168.49.2"]}],
    }
    found = list(api_server(MANIFESTS, having(api_endpoints=[endpoints])))
    assert [f"port: {port}" in finding.fix[0] for finding in found] == ([] if reached else [True])


def test_a_cluster_of_ipv6_alone_is_not_supported() -> None:
    endpoints = {
        "addressType": "IPv6",
        "ports": [{"port": 6443}],
        "endpoints": [{"addresses": ["fd00::1"]}],
    }
    (found,) = api_server(MANIFESTS, having(api_endpoints=[endpoints]))
    assert "first address family is IPv6" in found.message


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
