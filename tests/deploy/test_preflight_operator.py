"""KubeRay's operator: whether it is there, up, new enough and watches the namespace."""

from typing import Any

import pytest

from serving.deploy.finding import State
from serving.deploy.kuberay import operator
from tests.cli.deployed import NAMESPACE
from tests.deploy.facts import MANIFESTS, Object, having


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
