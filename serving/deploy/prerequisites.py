"""Prerequisites of the service in a cluster: versions, KubeRay, CRDs, secrets, images."""

import re
from collections.abc import Iterator

from serving.deploy.facts import Facts
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.manifests import Manifests, Object
from serving.deploy.pods import containers, secrets, wanted
from serving.deploy.selectors import selects

_KUBERNETES = (1, 29)
_KUBERAY = (1, 7)
_HELM = (
    "helm repo add kuberay https://ray-project.github.io/kuberay-helm/ && helm repo update",
    "helm upgrade --install kuberay-operator kuberay/kuberay-operator --version 1.7.0 "
    "-n kuberay-system --create-namespace",
)
_OPERATOR_IMAGE = re.compile(r"(^|/)kuberay/operator[:@]|kuberay-operator[:@]")
_CRD_BASE = "https://github.com/ray-project/kuberay/ray-operator/config/crd?ref=v1.7.0"
_EXAMPLE = re.compile(r"(^|\.)example\.(com|org|net)(:\d+)?/|^[^/]*\.(invalid|example)/")
"""Host names that RFC 2606 reserves for documents."""


def kubernetes_version(facts: Facts) -> Finding:
    found = _version(facts.version)
    if found is not None and found < _KUBERNETES:
        least = ".".join(map(str, _KUBERNETES))
        return missing(
            "Kubernetes",
            f"the cluster runs {facts.version}; the manifests need {least} or newer",
            "upgrade the control plane and the nodes, as the cluster's provider says",
        )
    return ok("Kubernetes", facts.version)


def kinds(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks for custom resource definitions; a finding for each group that lacks some."""
    lacking: dict[str, list[str]] = {}
    for (api_version, kind), known in facts.kinds.items():
        if not known:
            lacking.setdefault(api_version, []).append(kind)
    for api_version, names in lacking.items():
        if api_version.startswith("ray.io/"):
            fix: tuple[str, ...] = (_HELM[1], f'or the CRDs alone: kubectl create -k "{_CRD_BASE}"')
        else:
            group = api_version.partition("/")[0]
            fix = (f"install the CRDs of {group}, or leave these manifests out",)
        yield missing("CRDs", f"no {', '.join(names)} of {api_version} in the cluster", *fix)
    if not lacking:
        yield ok("CRDs", f"all {len(facts.kinds)} kinds of the manifests are known")


def operator(manifests: Manifests, facts: Facts) -> Finding:
    subject = "KubeRay operator"
    if facts.deployments is None:
        return unknown(subject, "list deployments", "kubectl get deployments -A | grep kuberay")
    found = [each for each in facts.deployments if _operator_image(each)]
    if not found:
        return missing(subject, "it is not installed", *_HELM)
    deployment = found[0]
    namespace, name = deployment["metadata"]["namespace"], deployment["metadata"]["name"]
    image = _operator_image(deployment)
    version = _version(image.rpartition(":")[2])
    if version is not None and version < _KUBERAY:
        return missing(subject, f"{image} is older than 1.7", *_HELM)
    if not (deployment.get("status") or {}).get("availableReplicas"):
        return missing(
            subject,
            f"{namespace}/{name} has no running pod",
            f"kubectl -n {namespace} describe pods -l app.kubernetes.io/name=kuberay-operator",
            f"kubectl -n {namespace} rollout restart deployment/{name}",
        )
    if not _let_in(manifests, deployment, facts):
        return missing(
            subject,
            f"{namespace}/{name} cannot reach the head: the NetworkPolicies admit operators of "
            "other namespaces or labels",
            "set the namespace in the NetworkPolicy operator-to-head to "
            f"kubernetes.io/metadata.name: {namespace}",
        )
    return ok(subject, f"{image} in {namespace}")


def _operator_image(deployment: Object) -> str:
    """The image of KubeRay's operator; "" if the deployment is another."""
    images = [c.get("image", "") for c in containers(deployment["spec"]["template"]["spec"])]
    return next((image for image in images if _OPERATOR_IMAGE.search(image)), "")


def _let_in(manifests: Manifests, deployment: Object, facts: Facts) -> bool:
    """Whether the manifests' policies leave the head's dashboard port open to the operator."""
    head = {"ray.io/node-type": "head", "ray.io/is-ray-node": "yes"}
    home = deployment["metadata"]["namespace"]
    spaces = {each["metadata"]["name"]: each["metadata"] for each in facts.namespaces or ()}
    space = {"kubernetes.io/metadata.name": home} | spaces.get(home, {}).get("labels", {})
    labels = deployment["spec"]["template"]["metadata"].get("labels", {})
    policies = [
        policy["spec"]
        for policy in manifests.of_kind("NetworkPolicy")
        if selects(policy["spec"].get("podSelector"), head)
        and "Ingress" in policy["spec"].get("policyTypes", ["Ingress"])
    ]
    return not policies or any(
        selects(peer.get("namespaceSelector"), space)
        and selects(peer.get("podSelector", {}), labels)
        for policy in policies
        for rule in policy.get("ingress") or ()
        for peer in rule.get("from") or [{"namespaceSelector": {}}]
    )


def needed_secrets(manifests: Manifests, facts: Facts, script: str) -> Iterator[Finding]:
    """Checks for the Secrets that pods read; `script` creates them all."""
    namespace = manifests.namespace
    if facts.secret_keys is None:
        yield unknown("secrets", "read secrets", f"kubectl -n {namespace} get secrets")
        return
    lacking = False
    for name, keys in secrets(manifests.objects).items():
        has = facts.secret_keys.get(name)
        absent = sorted(set(keys) - (has or set()))
        if not absent:
            continue
        what = f"secret {name} does not exist" if has is None else f"secret {name} has no key"
        what += f" (key {', '.join(absent)})" if has is None else f" {', '.join(absent)}"
        literals = " ".join(
            f"--from-literal={key}=" + ('"$(openssl rand -hex 32)"' if needed else "<value>")
            for key, needed in sorted(keys.items())
        )
        command = f"kubectl -n {namespace} create secret generic {name} {literals}"
        if any(keys.values()):
            lacking = True
            if has is not None:
                command = f"kubectl -n {namespace} delete secret {name} && {command}"
            yield missing(
                "secrets", what, command, *([f"or all of them: {script}"] if script else [])
            )
        else:
            yield caution("secrets", f"{what}: gated weights need it", command)
    if not lacking:
        yield ok("secrets", "all that pods read exist")


def images(manifests: Manifests) -> Finding:
    """Checks that images are of a registry that exists."""
    named = {
        str(container["image"])
        for pods in wanted(manifests.objects)
        for container in containers(pods.spec)
        if "image" in container
    }
    if examples := sorted(image for image in named if _EXAMPLE.search(image)):
        return missing(
            "images",
            f"{', '.join(examples)} are placeholders for images of your own",
            "deploy/images.sh <your registry>",
        )
    return ok("images", ", ".join(sorted(named)))


def refusals(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Findings for the manifests that the server refused in a dry run."""
    for name, why in (facts.refusals or {}).items():
        yield missing("manifests", f"the cluster refuses {name}: {why}",
                      f"kubectl apply --dry-run=server {manifests.source}")  # fmt: skip


def _version(text: str) -> tuple[int, int] | None:
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
