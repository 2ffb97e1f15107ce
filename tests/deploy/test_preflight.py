"""serving/deploy/preflight.py and its checks, of facts written down by hand."""

import copy
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
from serving.deploy.kuberay import operator
from serving.deploy.manifests import Manifests
from serving.deploy.monitoring import LABELS, monitoring
from serving.deploy.prerequisites import images, kubernetes_version, runtime
from serving.deploy.quotas import quotas
from serving.deploy.reach import api_server
from serving.deploy.rights import rights
from serving.deploy.storage import storage
from tests.cli.deployed import H100, K8S, NAMESPACE

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
    assert (
        "1 of 2 engine (8 cpu, 48 GiB memory, 10 GiB ephemeral-storage, 2 nvidia.com/gpu"
        in short.message
    )
    assert of(State.missing, nodes(MANIFESTS, with_pod(ours))) == []


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"unschedulable": True}, "gpu-0 is cordoned"),
        (
            {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]},
            "gpu-0 has the taint team=a:NoSchedule",
        ),
    ],
)
def test_nodes_that_take_none_of_our_pods_do_not_count_and_are_named(
    spec: Object, why: str
) -> None:
    closed = having(nodes=[node("gpu-0", **spec), node("cpu-0", gpus=0)])
    found = list(nodes(MANIFESTS, closed))
    assert [(each.subject, each.state) for each in found] == [("GPUs", State.missing)]
    assert found[0].message.endswith(why)
    tolerate = [fix for fix in found[0].fix if "edit raycluster" in fix]
    assert bool(tolerate) is ("taint" in why)


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


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"nvidia.com/cuda.driver.major": "535"}, "driver 580 or later"),
        ({"nvidia.com/cuda.driver-version.major": "570"}, "do not have: gpu-0 (570)"),
        ({"nvidia.com/gpu.sharing-strategy": "time-slicing"}, "time-shared on gpu-0"),
        ({"nvidia.com/gpu.replicas": "4"}, "time-shared on gpu-0"),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"}, "MIG slices on gpu-0"),
    ],
)
def test_gpus_that_an_engine_cannot_use_are_a_lack(labels: dict[str, str], said: str) -> None:
    fine = {
        "nvidia.com/gpu.product": H100,
        "nvidia.com/gpu.memory": "81559",
        "nvidia.com/cuda.driver.major": "580",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/gpu.replicas": "1",
    }
    gpu = node("gpu-0")
    gpu["metadata"]["labels"] = fine
    assert list(gpu_types(MANIFESTS, having(nodes=[gpu]))) == []
    gpu["metadata"]["labels"] = fine | labels
    (found,) = of(State.missing, gpu_types(MANIFESTS, having(nodes=[gpu])))
    assert said in found.message
    gpu["spec"] = {"unschedulable": True}
    assert list(gpu_types(MANIFESTS, having(nodes=[gpu]))) == []


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


def test_a_quota_on_limits_that_no_pod_sets_refuses_all_pods() -> None:
    quota = {"metadata": {"name": "team"}, "spec": {"hard": {"limits.cpu": "500"}}}
    (found,) = of(State.missing, quotas(MANIFESTS, having(quotas=[quota])))
    assert found.message.endswith("are refused: redis, weights, head, router, engine")
    defaults = {"spec": {"limits": [{"type": "Container", "default": {"cpu": "4"}}]}}
    assert (
        of(State.missing, quotas(MANIFESTS, having(quotas=[quota], limit_ranges=[defaults]))) == []
    )


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


def prometheus(
    namespace: str, everywhere: bool = True, retention: str = "31d", **selector: str
) -> Object:
    kinds = ("podMonitor", "serviceMonitor", "scrapeConfig", "rule")
    spec: Object = {f"{kind}Selector": {"matchLabels": selector} for kind in kinds}
    spec["retention"] = retention
    if everywhere:
        spec |= {f"{kind}NamespaceSelector": {} for kind in kinds}
    return {"metadata": {"name": "kps", "namespace": namespace}, "spec": spec}


def test_what_is_in_the_folder_has_the_labels_that_preflight_compares() -> None:
    for obj in read.read(K8S / "monitoring").objects:
        assert obj["metadata"]["labels"] == LABELS


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (prometheus("monitoring", release="prometheus"), []),
        (prometheus("monitoring"), []),
        (prometheus("monitoring", release="kps"), ["the podMonitorSelector of Prometheus"]),
        (
            prometheus("monitoring", everywhere=False),
            ["does not select the namespace mistral-serve"],
        ),
        (prometheus("observability", release="prometheus"), ["keep Prometheus observability/kps"]),
    ],
)
def test_a_prometheus_that_does_not_find_the_service_is_told(made: Object, said: list[str]) -> None:
    found = of(State.caution, monitoring(MANIFESTS, having(prometheuses=[made])))
    assert len(found) == len(said)
    assert all(text in each.message for text, each in zip(said, found, strict=True))
    another = having(prometheuses=[made, prometheus("monitoring", release="prometheus")])
    assert of(State.caution, monitoring(MANIFESTS, another)) == []


@pytest.mark.parametrize(
    ("kept", "cautions"),
    [("10d", 1), ("2w1d", 1), ("31d", 0), ("720h", 0), ("1y", 0), ("", 1), (None, 0)],
)
def test_a_prometheus_that_forgets_before_an_error_budget_ends_is_told(
    kept: str | None, cautions: int
) -> None:
    """Without a retention its operator sets a day, unless the size alone is bounded."""
    made = prometheus("monitoring", release="prometheus", retention=kept or "")
    if kept is None:
        made["spec"]["retentionSize"] = "100GiB"
    found = of(State.caution, monitoring(MANIFESTS, having(prometheuses=[made])))
    assert len(found) == cautions
    assert all("error budgets are of 30 days" in each.message for each in found)


@pytest.mark.parametrize(
    ("namespaces", "cautions"), [(None, 1), ("ops,monitoring", 1), ("ALL", 0), (NAMESPACE, 0)]
)
def test_a_grafana_that_does_not_look_here_for_dashboards_is_told(
    namespaces: str | None, cautions: int
) -> None:
    env = [{"name": "LABEL", "value": "grafana_dashboard"}]
    env += [{"name": "NAMESPACE", "value": namespaces}] if namespaces else []
    grafana = {
        "metadata": {"name": "grafana", "namespace": "monitoring"},
        "spec": {"template": {"spec": {"containers": [{"name": "sidecar", "env": env}]}}},
    }
    found = of(State.caution, monitoring(MANIFESTS, having(deployments=[grafana])))
    assert len(found) == cautions


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


def deployment(
    image: str = "quay.io/kuberay/operator:v1.7.0", name: str = "kuberay-operator", **more: Any
) -> Object:
    """An operator that is up, as its chart makes it."""
    container = {"image": image, "args": more.pop("args", [])}
    template = {
        "metadata": {"labels": {"app.kubernetes.io/name": "kuberay-operator"}},
        "spec": {"containers": [container], "priorityClassName": more.pop("priority", "any")},
    }
    metadata = {"name": name, "namespace": "kuberay-system"} | more
    return {
        "metadata": metadata,
        "spec": {"template": template},
        "status": {"availableReplicas": 1},
    }


def test_an_operator_that_is_down_is_told_with_what_to_look_at() -> None:
    down = deployment() | {"status": {}}
    found = operator(MANIFESTS, having(deployments=[down]))
    assert found.state is State.missing
    assert "has no running pod" in found.message
    assert "describe pods -l app.kubernetes.io/name=kuberay-operator" in found.fix[0]
    assert operator(MANIFESTS, having(deployments=[deployment()])).state is State.ok


HELMED = {"meta.helm.sh/release-name": "ray", "meta.helm.sh/release-namespace": "ops"}


@pytest.mark.parametrize(
    ("annotations", "fix"),
    [
        ({}, "kubectl -n kuberay-system patch deployment kuberay-operator -p "),
        (HELMED, "helm upgrade ray kuberay/kuberay-operator "),
    ],
)
def test_an_operator_that_pods_of_the_service_may_evict_is_told_of(
    annotations: dict[str, str], fix: str
) -> None:
    low = deployment(priority="", annotations=annotations)
    found = operator(MANIFESTS, having(deployments=[low]))
    assert found.state is State.caution
    assert fix in found.fix[0] and "mistral-serve" in found.fix[0]


@pytest.mark.parametrize("args", [["--watch-namespace", "team"], ["--watch-namespace=a,team"]])
def test_an_operator_that_does_not_watch_the_namespace_is_a_lack(args: list[str]) -> None:
    elsewhere = deployment(args=args)
    found = operator(MANIFESTS, having(deployments=[elsewhere]))
    assert (found.state, found.message.split()[1:3]) == (State.missing, ["watches", "only"])
    here = deployment(args=[f"--watch-namespace=team,{NAMESPACE}"], name="second")
    both = having(deployments=[elsewhere, here])
    assert operator(MANIFESTS, both).state is State.ok


def test_no_second_operator_is_installed_beside_one_of_another_name() -> None:
    mirrored = deployment(image="registry.corp/mirror/ray:v1.7.0", name="ray-operator")
    assert operator(MANIFESTS, having(deployments=[mirrored])).state is State.ok
    by_digest = deployment(image="registry.corp/odh-kuberay-operator@sha256:" + "0" * 64)
    assert operator(MANIFESTS, having(deployments=[by_digest])).state is State.caution
    hidden = having(kinds={("ray.io/v1", "RayService"): True})
    assert operator(MANIFESTS, hidden).fix[0].startswith("install no second one")


def test_an_old_operator_gets_its_definitions_first_and_is_upgraded_where_it_is() -> None:
    release = {"meta.helm.sh/release-name": "ray", "meta.helm.sh/release-namespace": "ops"}
    old = deployment(image="quay.io/kuberay/operator:v1.4.2", annotations=release)
    definitions, upgrade = operator(MANIFESTS, having(deployments=[old])).fix
    assert definitions.startswith("kubectl apply --server-side ")
    assert upgrade.startswith("helm upgrade ray kuberay/kuberay-operator --version 1.7.0 -n ops")


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
