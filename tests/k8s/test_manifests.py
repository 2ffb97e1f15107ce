"""What holds for the manifests of this repository, and need not for a user's."""

import pytest
import yaml

from serving.config import load
from serving.deploy.lint.pods import ray_pods
from serving.deploy.lint.references import SECRETS
from serving.deploy.pods import secrets
from serving.deploy.serve_config import config_of
from tests.k8s.manifests import K8S, OVERLAY_PARAMETERS, ROOT, base, overlay


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
    start_s = 720 if any(m.entry.accelerator == "gpu" for m in config.models) else 420
    for pod in ray_pods(service):
        assert pod.spec["terminationGracePeriodSeconds"] <= answer_s + start_s, pod.owner
    assert service["spec"]["rayClusterDeletionDelaySeconds"] <= answer_s + 60


@pytest.mark.parametrize("name", ["production", "pipeline-parallel", "three-models", "two-80gb"])
def test_in_production_routers_scale_and_are_never_fewer_than_two(name: str) -> None:
    router = load(ROOT / f"deploy/serve/{name}.yaml").router
    assert 2 <= router.least_replicas < router.most_replicas


def test_each_pod_has_the_label_that_clusters_ask_for() -> None:
    """Kyverno's policy require-labels; KubeRay gives it to Ray's pods."""
    for obj in base().of_kind("StatefulSet", "Deployment", "Job"):
        assert obj["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"], obj


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
