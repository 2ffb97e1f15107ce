"""`mistral-serve deploy preflight`."""

from pathlib import Path

import pytest

from tests.cli.conftest import Deploy
from tests.cli.deployed import H100, K8S, NAMESPACE, add_secret, make_ready, manifests, replace
from tests.cluster.cluster import Cluster
from tests.k8s.manifests import OVERLAYS, needs_kubectl


def lines(output: str, state: str) -> list[str]:
    """Subject and message of each finding with that state."""
    found = [line.split(maxsplit=1) for line in output.splitlines() if line[:1].isalpha()]
    return [words[1] for words in found if words[0] == state]


def fixes(output: str) -> list[str]:
    found = [line.strip() for line in output.splitlines()]
    return [line.removeprefix("-> ") for line in found if line.startswith("-> ")]


def test_a_cluster_that_has_all_lacks_nothing(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    result = deploy("preflight", str(manifests(tmp_path)))
    assert lines(result.stdout, "missing") == []
    assert "GPUs: 16 x NVIDIA-H100-80GB-HBM3; 4 are needed" in lines(result.stdout, "ok")
    assert result.exit_code == 0


def test_ten_lacks_are_named_in_one_run_each_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deploy: Deploy
) -> None:
    folder = manifests(tmp_path)
    replace(folder, "registry.test", "registry.example.com")
    replace(folder, 'requests.nvidia.com/gpu: "16"', 'requests.nvidia.com/gpu: "2"')
    replace(folder, "gpu: H100-80GB", "gpu: H200")
    with Cluster(tmp_path, crd_groups=()) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        cluster.add_storage_class(default=False)
        cluster.add_operator("v1.3.0")
        cluster.add_node("gpu-0", cpus=4, gpus=1, product=H100)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        cluster.create(space)
        add_secret(cluster, "redis-password", "wrong-key")
        cluster.faults.denied.add(("create", "priorityclasses", "*"))
        result = deploy("preflight", str(folder))
    found = lines(result.stdout, "missing")
    for lack in (
        "CRDs: no RayService of ray.io/v1 in the cluster",
        "KubeRay operator: quay.io/kuberay/operator:v1.3.0 is older than 1.7",
        "permissions: missing for the whole cluster: create priorityclasses.scheduling.k8s.io",
        "images: registry.example.com/mistral-serve-cpu:0.1.0",
        "secrets: secret redis-password has no key password",
        "secrets: secret ray-auth-token does not exist (key auth_token)",
        "storage: claim models uses the default storage class and there is none",
        "quota: mistral-serve allows 2 of requests.nvidia.com/gpu and 4 are needed",
        "GPUs: no node has room for 2 of 2 engine",
        "GPUs: mistralai/Mistral-Small-3.2-24B-Instruct-2506 is set to H200",
    ):
        assert any(line.startswith(lack) for line in found), (lack, found)
    for fix in (
        "kubectl apply --server-side --force-conflicts -k",
        "helm upgrade kuberay-operator kuberay/kuberay-operator --version 1.7.0 -n kuberay-system",
        "kubectl create clusterrole mistral-serve-deployer --verb=create",
        "deploy/images.sh",
        f"kubectl -n {NAMESPACE} create secret generic ray-auth-token",
        "or all of them: deploy/secrets.sh",
        "set storageClassName of claim models, or: kubectl patch storageclass standard",
        "raise requests.nvidia.com/gpu in the manifest of quota mistral-serve to 4 or more",
        "add nodes, free some, or lower replicas",
        "set models[].gpu in deploy/serve/production.yaml",
    ):
        assert any(line.startswith(fix) for line in fixes(result.stdout)), fix
    assert result.exit_code == 1


def test_what_one_may_not_see_is_said_and_the_rest_is_checked(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    for plural in ("nodes", "secrets", "deployments"):
        ready.faults.denied |= {("list", plural, "*"), ("get", plural, "*")}
    result = deploy("preflight", str(manifests(tmp_path)))
    unknown = lines(result.stdout, "unknown")
    assert [line.partition(":")[0] for line in unknown] == ["KubeRay operator", "secrets", "nodes"]
    assert "storage: each claim has a storage class" in lines(result.stdout, "ok")


def test_manifests_that_the_cluster_would_refuse_are_named(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    replace(folder, "maxReplicas: 4", "maxReplica: 4")
    result = deploy("preflight", str(folder))
    (refused,) = lines(result.stdout, "missing")
    assert refused.startswith("manifests: the cluster refuses RayService mistral-serve/mistral")
    assert "maxReplica" in refused


def test_a_change_of_what_runs_lacks_nothing_though_a_job_cannot_be_changed(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    deploy("apply", str(folder))
    replace(folder, ":0.1.0", ":0.2.0")
    result = deploy("preflight", str(folder))
    assert lines(result.stdout, "missing") == []


def test_an_operator_that_policies_shut_out_is_found(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    folder = manifests(tmp_path)
    replace(folder, "kuberay-system", "ray-system")
    result = deploy("preflight", str(folder))
    assert "set the namespace in the NetworkPolicy operator-to-head" in result.stdout
    assert any(each.endswith("metadata.name: kuberay-system") for each in fixes(result.stdout))


def test_what_differs_from_platform_to_platform_is_compared(
    ready: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    for obj in (
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 7443}],
            "endpoints": [{"addresses": ["172.18.0.2"]}],
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSIDriver",
            "metadata": {"name": "nfs.csi.k8s.io"},
            "spec": {"fsGroupPolicy": "None"},
        },
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "nfs"},
            "provisioner": "nfs.csi.k8s.io",
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "memory", "namespace": NAMESPACE},
            "spec": {"limits": [{"type": "Container", "default": {"memory": "1Gi"}}]},
        },
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "team", "namespace": NAMESPACE},
            "spec": {"hard": {"limits.cpu": "500"}},
        },
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "kps", "namespace": "default"},
            "spec": {"podMonitorSelector": {"matchLabels": {"release": "kps"}}},
        },
    ):
        ready.create(obj)
    folder = manifests(tmp_path)
    many = "accessModes: [ReadWriteMany]"
    replace(folder, many, f"storageClassName: nfs\n  {many}")
    result = deploy("preflight", str(folder))
    found = lines(result.stdout, "missing") + lines(result.stdout, "caution")
    for lack in (
        "network: the NetworkPolicies keep the head from the API server on port 7443",
        "storage: claim models: nfs.csi.k8s.io does not give the volume the pods' group",
        "quota: team bounds limits.cpu, so that pods without it are refused: ",
        "monitoring: the podMonitorSelector of Prometheus default/kps does not select",
        "monitoring: the NetworkPolicies keep Prometheus default/kps from the metrics",
    ):
        assert any(line.startswith(lack) for line in found), (lack, found)


def test_gpus_that_an_autoscaler_will_bring_are_no_lack(
    cluster: Cluster, deploy: Deploy, tmp_path: Path
) -> None:
    make_ready(cluster, gpu_nodes=0)
    autoscaler = {"name": "cluster-autoscaler-status", "namespace": "kube-system"}
    folder = str(manifests(tmp_path))
    lacking = deploy("preflight", folder)
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": autoscaler})
    growing = deploy("preflight", folder)
    assert (lacking.exit_code, growing.exit_code) == (1, 0)
    assert any(line.startswith("GPUs: 4 are needed") for line in lines(growing.stdout, "caution"))


@needs_kubectl
def test_the_overlay_for_a_laptop_lacks_nothing_once_its_image_is_loaded(
    cluster: Cluster, deploy: Deploy
) -> None:
    make_ready(cluster, gpu_nodes=0)
    overlay = str(OVERLAYS / "cpu")
    (lacking,) = lines(deploy("preflight", overlay).stdout, "missing")
    assert lacking.startswith("images: registry.example.com/mistral-serve-cpu:")
    image = lacking.split()[1]
    nodes = cluster.api.kinds["", "nodes"]
    node = cluster.api.get(nodes, "", "cpu-0")
    node["status"]["images"] = [{"names": [image]}]
    cluster.api.update(nodes, "", "cpu-0", node, status=True)
    result = deploy("preflight", overlay)
    assert (lines(result.stdout, "missing"), result.exit_code) == ([], 0)


def test_without_a_kubeconfig_there_is_a_line_and_no_trace(
    deploy: Deploy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    result = deploy("preflight", str(K8S))
    assert result.exit_code == 3
    assert result.stderr.startswith("mistral-serve: there is no kubeconfig")


def test_a_cluster_that_is_away_is_a_line_too(cluster: Cluster, deploy: Deploy) -> None:
    cluster.server.stop()
    result = deploy("preflight", str(K8S))
    cluster.server.start()
    assert result.exit_code == 3
    assert "does not answer: " in result.stderr
    assert "Traceback" not in result.output


def test_a_context_that_there_is_not_is_named(cluster: Cluster, deploy: Deploy) -> None:
    result = deploy("preflight", str(K8S), "--context", "elsewhere")
    assert result.exit_code == 3
    assert "elsewhere" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "cannot be read as YAML"),
        ("kind: Pod\n", "not a Kubernetes object"),
        ("", "has no manifests"),
    ],
)
def test_a_file_that_is_no_manifest(deploy: Deploy, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    result = deploy("preflight", str(tmp_path / "a.yaml"))
    assert result.exit_code == 2
    assert said in result.stderr
