"""KubeRay's operator: whether there is one that serves this namespace, and its version."""

import re

from serving.deploy.facts import Facts, version_of
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import containers
from serving.deploy.reach import admits

_KUBERAY = (1, 7)
HELM = (
    "helm repo add kuberay https://ray-project.github.io/kuberay-helm/ && helm repo update",
    "helm upgrade --install kuberay-operator kuberay/kuberay-operator --version 1.7.0 "
    "-n kuberay-system --create-namespace",
)
_OPERATOR = "kuberay-operator"
_OPERATOR_IMAGE = re.compile(r"(^|/)kuberay/operator[:@]|kuberay-operator[\w-]*[:@]")
_WATCHED = re.compile(r"--?watch-namespace[= ](\S+)")
_DASHBOARD = 8265
CRDS = (
    "kubectl apply --server-side --force-conflicts -k "
    '"https://github.com/ray-project/kuberay/ray-operator/config/crd?ref=v1.7.0"'
)
"""Helm installs the CRDs of a chart, and leaves them as they are in an upgrade."""


def operator(manifests: Manifests, facts: Facts) -> Finding:
    subject = "KubeRay operator"
    if facts.deployments is None:
        return unknown(subject, "list deployments", "kubectl get deployments -A | grep kuberay")
    found = operators(facts)
    if not found:
        if any(api.startswith("ray.io/") and known for (api, _), known in facts.kinds.items()):
            look = "install no second one if one of these is it: kubectl get deployments -A"
            return missing(subject, "its CRDs are there and no operator is found", look, *HELM)
        return missing(subject, "it is not installed", *HELM)
    here = manifests.namespace
    deployment = next((each for each in found if here in _watched(each, here)), found[0])
    namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
    if here not in _watched(deployment, here):
        watched = ", ".join(sorted(_watched(deployment, here)))
        return missing(
            subject,
            f"{namespace}/{name} watches only {watched}",
            f"add {here} to watchNamespace in the values of its chart, or to --watch-namespace: "
            f"kubectl -n {namespace} edit deployment {name}",
        )
    labels = (deployment["spec"]["template"].get("metadata") or {}).get("labels") or {}
    image = _image(deployment)
    version = version_of(image.rpartition(":")[2])
    if version is not None and version < _KUBERAY:
        return missing(subject, f"{image} is older than 1.7", CRDS, _upgrade(deployment))
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return missing(
            subject,
            f"{namespace}/{name} has no running pod",
            f"kubectl -n {namespace} describe pods -l "
            + ",".join(f"{key}={value}" for key, value in labels.items()),
            f"kubectl -n {namespace} rollout restart deployment/{name}",
        )
    if not admits(manifests, facts, namespace, labels, _DASHBOARD):
        return missing(
            subject,
            f"{namespace}/{name} cannot reach the head: the NetworkPolicies admit operators of "
            "other namespaces or labels",
            f"set the labels of its podSelector to some of {labels}, and",
            "set the namespace in the NetworkPolicy operator-to-head to "
            f"kubernetes.io/metadata.name: {namespace}",
        )
    ours = [obj["metadata"]["name"] for obj in manifests.of_kind("PriorityClass")]
    if ours and not deployment["spec"]["template"]["spec"].get("priorityClassName"):
        return caution(
            subject,
            f"{namespace}/{name} has no priority: where CPUs are short, pods of the priority "
            f"{ours[0]} evict it, and no pod is replaced until it runs again",
            "once the service is applied: " + _set_priority(deployment, ours[0]),
        )
    if version is None:
        return caution(subject, f"{image} in {namespace} does not tell its version",
                       "make sure that it is 1.7 or later")  # fmt: skip
    return ok(subject, f"{image} in {namespace}")


def operators(facts: Facts) -> list[Object]:
    """The Deployments of KubeRay's operator, by their image, name or labels."""

    def is_one(deployment: Object) -> bool:
        template = deployment["spec"]["template"]
        labels = (template.get("metadata") or {}).get("labels") or {}
        named = deployment["metadata"]["name"] == _OPERATOR or _OPERATOR in labels.values()
        return named or any(_OPERATOR_IMAGE.search(image) for image in _images(deployment))

    return [each for each in facts.deployments or () if is_one(each)]


def _images(deployment: Object) -> list[str]:
    return [c.get("image", "") for c in containers(deployment["spec"]["template"]["spec"])]


def _image(deployment: Object) -> str:
    images = _images(deployment)
    return next((image for image in images if _OPERATOR_IMAGE.search(image)), images[0])


def _watched(deployment: Object, here: str) -> set[str]:
    """The namespaces that an operator watches; `here` if it watches all."""
    for container in containers(deployment["spec"]["template"]["spec"]):
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        if match := _WATCHED.search(" ".join(map(str, words))):
            return set(match[1].strip("\"'").split(","))
    return {here}


def _set_priority(deployment: Object, name: str) -> str:
    if "meta.helm.sh/release-name" in (deployment["metadata"].get("annotations") or {}):
        return f"{_upgrade(deployment)} --set priorityClassName={name}"
    patch = f'{{"spec":{{"template":{{"spec":{{"priorityClassName":"{name}"}}}}}}}}'
    metadata = deployment["metadata"]
    return f"kubectl -n {metadata['namespace']} patch deployment {metadata['name']} -p '{patch}'"


def _upgrade(deployment: Object) -> str:
    """How the operator is upgraded where it is: `helm upgrade --install` could add a second."""
    annotations = deployment["metadata"].get("annotations") or {}
    release = annotations.get("meta.helm.sh/release-name")
    if release is None:
        return "then upgrade it in the way that it was installed"
    place = annotations.get("meta.helm.sh/release-namespace", deployment["metadata"]["namespace"])
    return (
        f"helm upgrade {release} kuberay/kuberay-operator --version 1.7.0 -n {place} "
        "--reset-then-reuse-values"
    )
