"""What k8s/ has for GitOps, meshes and clouds, which take nodes and have disks of their own."""

import pytest
import yaml

from serving.deploy.pods import wanted
from tests.k8s.manifests import (
    ADD_ONS,
    K8S,
    OVERLAY_NAMES,
    base,
    cached,
    needs_kubectl,
    overlay,
    the,
)


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


@needs_kubectl
@pytest.mark.parametrize("name", sorted({*OVERLAY_NAMES} - {"cpu"}))
def test_pods_ask_for_the_disk_that_they_fill(name: str) -> None:
    for pods in wanted(overlay(name).objects):
        assert pods.usage["requests.ephemeral-storage"] > 0, pods.owner
