"""What holds for the manifests of this repository, and need not for a user's."""

import pytest
import yaml

from serving.config import load
from serving.deploy.lint.pods import ray_pods
from serving.deploy.lint.references import SECRETS
from serving.deploy.pods import secrets, wanted
from serving.deploy.serve_config import config_of
from tests.k8s.manifests import ADD_ONS, K8S, OVERLAY_PARAMETERS, ROOT, base, cached, overlay, the


@pytest.mark.parametrize("name", [None, *OVERLAY_PARAMETERS])
def test_the_script_makes_each_secret_that_they_name(name: str | None) -> None:
    manifests = base() if name is None else overlay(name)
    assert secrets(manifests.objects).keys() <= SECRETS.keys()


@pytest.mark.parametrize("name", [None, *OVERLAY_PARAMETERS])
def test_grace_periods_follow_the_drain_timeout(name: str | None) -> None:
    """A node may not be held much longer than its answers and a successor's start may take."""
    service = (base() if name is None else overlay(name)).service
    config = config_of(service)
    answer_s = max(config.router.drain_timeout_s, *(m.drain_timeout_s for m in config.models))
    start_s = 720 if any(m.entry.accelerator == "gpu" for m in config.models) else 240
    for pod in ray_pods(service):
        assert pod.spec["terminationGracePeriodSeconds"] <= answer_s + start_s, pod.owner
    assert service["spec"]["rayClusterDeletionDelaySeconds"] <= answer_s + 60


@pytest.mark.parametrize("name", ["production", "pipeline-parallel", "three-models", "two-80gb"])
def test_in_production_routers_scale_and_are_never_fewer_than_two(name: str) -> None:
    router = load(ROOT / f"deploy/serve/{name}.yaml").router
    assert 2 <= router.least_replicas < router.most_replicas


def test_nothing_in_the_folder_makes_kubectl_apply_fail() -> None:
    """It reads each .yaml, .yml and .json of the folder itself, and knows no kind Kustomization."""
    assert not base().of_kind("Kustomization")
    assert not list(K8S.glob("*.json")) + list(K8S.glob("*.yml"))


def test_kinds_that_need_further_definitions_stand_in_subfolders() -> None:
    groups = {obj["apiVersion"].rpartition("/")[0] for obj in base().objects}
    assert groups - {"ray.io"} <= {
        *("", "apps", "batch", "policy"),
        *("networking.k8s.io", "rbac.authorization.k8s.io", "scheduling.k8s.io"),
    }


def test_the_base_of_the_overlays_is_all_that_kubectl_applies() -> None:
    kustomization = yaml.safe_load((K8S / "Kustomization").read_text())
    assert kustomization["resources"] == sorted(path.name for path in K8S.glob("*.yaml"))


def test_a_changed_job_replaces_the_old_one_under_argo_and_flux_and_says_why_it_fails() -> None:
    job = the(base(), "Job", "weights")
    annotations = job["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/hook-delete-policy"] == "BeforeHookCreation"
    assert annotations["kustomize.toolkit.fluxcd.io/force"] == "enabled"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize("add_on", [None, *ADD_ONS])
def test_flux_substitutes_nothing_in_what_has_variables_of_its_own(add_on: str | None) -> None:
    manifests = base() if add_on is None else cached(K8S / add_on)
    with_variables = [obj for obj in manifests.objects if "${" in yaml.safe_dump(obj)]
    for obj in with_variables:
        annotations = obj["metadata"]["annotations"]
        assert annotations["kustomize.toolkit.fluxcd.io/substitute"] == "disabled"
    assert with_variables or add_on


def test_no_mesh_puts_its_proxy_beside_ray() -> None:
    metadata = the(base(), "Namespace", "mistral-serve")["metadata"]
    assert metadata["labels"]["istio-injection"] == "disabled"
    assert metadata["labels"]["istio.io/dataplane-mode"] == "none"
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"


def test_nodes_are_not_consolidated_under_answers_or_state() -> None:
    cluster = base().service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    redis = the(base(), "StatefulSet", "redis")["spec"]["template"]
    kept = {
        name: template["metadata"].get("annotations", {}).get("karpenter.sh/do-not-disrupt")
        for name, template in {
            "head": cluster["headGroupSpec"]["template"],
            "router": groups["router"]["template"],
            "engine": groups["engine"]["template"],
            "redis": redis,
        }.items()
    }
    assert kept == {"head": None, "router": None, "engine": "true", "redis": "true"}


@pytest.mark.parametrize("name", [None, *OVERLAY_PARAMETERS])
def test_pods_ask_for_the_disk_that_they_fill(name: str | None) -> None:
    manifests = base() if name is None else overlay(name)
    for pods in wanted(manifests.objects):
        if name != "cpu" or pods.owner in ("redis", "weights"):
            assert pods.usage["requests.ephemeral-storage"] > 0, pods.owner
