"""The base and each overlay, by all rules that need no cluster."""

from collections.abc import Callable

import pytest

from tests.k8s import kuberay, references, security, serving
from tests.k8s.manifests import (
    ADD_ONS,
    K8S,
    OVERLAY_NAMES,
    OVERLAYS,
    Object,
    base,
    folder,
    kustomized,
    needs_kubectl,
)

RULES = [references, kuberay, security, serving]
OVERLAY_PARAMETERS = [pytest.param(name, marks=needs_kubectl) for name in OVERLAY_NAMES]


@pytest.fixture(params=["k8s", *ADD_ONS, *OVERLAY_PARAMETERS])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """The base, or that and a subfolder beside it, or an overlay."""
    if request.param == "k8s":
        return base()
    if request.param in ADD_ONS:
        return [*base(), *folder(K8S / request.param)]
    return kustomized(OVERLAYS / request.param)


@pytest.mark.parametrize(
    "problems", [rules.problems for rules in RULES], ids=lambda f: f.__module__
)
def test_nothing_is_wrong(
    objects: list[Object], problems: Callable[[list[Object]], list[str]]
) -> None:
    assert problems(objects) == []


def test_nothing_in_the_folder_makes_kubectl_apply_fail() -> None:
    """It reads each .yaml, .yml and .json of the folder itself, and knows no kind Kustomization."""
    assert not [object_ for object_ in base() if object_["kind"] == "Kustomization"]
    assert not list(K8S.glob("*.json")) + list(K8S.glob("*.yml"))


def test_kinds_that_need_further_definitions_stand_in_subfolders() -> None:
    groups = {object_["apiVersion"].rpartition("/")[0] for object_ in base()}
    assert groups - {"ray.io"} <= {
        *("", "apps", "batch", "policy"),
        *("networking.k8s.io", "rbac.authorization.k8s.io", "scheduling.k8s.io"),
    }


@needs_kubectl
def test_the_base_of_the_overlays_is_all_that_kubectl_applies() -> None:
    def names(objects: list[Object]) -> list[tuple[str, str]]:
        return sorted((object_["kind"], object_["metadata"]["name"]) for object_ in objects)

    assert names(kustomized(K8S)) == names(base())
