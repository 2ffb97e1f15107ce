"""Prerequisites of the service in a cluster: version, CRDs, secrets, images, runtime."""

import re
from collections.abc import Iterator

from serving.deploy.facts import Facts, version_of
from serving.deploy.finding import Finding, caution, missing, ok, unknown
from serving.deploy.kuberay import CRDS, HELM, operators
from serving.deploy.manifests import Manifests
from serving.deploy.pods import containers, secrets, wanted

_KUBERNETES = (1, 29)
_RANCHER = re.compile(r"\+(k3s|rke2)")
_EXAMPLE = re.compile(r"(^|\.)example\.(com|org|net)(:\d+)?/|^[^/]*\.(invalid|example)/")
"""Host names that RFC 2606 reserves for documents."""
_RANDOM = '"$(openssl rand -hex 32)"'
_SECRETS_SCRIPT = "deploy/secrets.sh"
_FIRST_VALUES = {"keys.json": """'{"keys": []}'"""}


def kubernetes_version(facts: Facts) -> Finding:
    found = version_of(facts.version)
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
    fix: tuple[str, ...]
    for (api_version, kind), known in facts.kinds.items():
        if not known:
            lacking.setdefault(api_version, []).append(kind)
    for api_version, names in lacking.items():
        if api_version.startswith("ray.io/"):
            fix = (CRDS,) if operators(facts) else (HELM[1], f"or the CRDs alone: {CRDS}")
        else:
            fix = (f"install a release with {api_version}, or leave these manifests out",)
        yield missing("CRDs", f"no {', '.join(names)} of {api_version} in the cluster", *fix)
    if not lacking:
        yield ok("CRDs", f"all {len(facts.kinds)} kinds of the manifests are known")


def needed_secrets(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks for the Secrets that pods read."""
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
            f"--from-literal={key}=" + (_FIRST_VALUES.get(key, _RANDOM) if needed else "<value>")
            for key, needed in sorted(keys.items())
        )
        command = f"kubectl -n {namespace} create secret generic {name} {literals}"
        if any(keys.values()):
            lacking = True
            if has is not None:
                command = f"kubectl -n {namespace} delete secret {name} && {command}"
            yield missing("secrets", what, command, f"or all of them: {_SECRETS_SCRIPT}")
        else:
            yield caution("secrets", f"{what}: gated weights need it", command)
    if not lacking:
        yield ok("secrets", "all that pods read exist")


def images(manifests: Manifests, facts: Facts) -> Finding:
    """Checks that images are of a registry that exists, or on a node already."""
    named = {
        str(container["image"])
        for pods in wanted(manifests.objects)
        for container in containers(pods.spec)
        if "image" in container
    }
    loaded = {
        name
        for node in facts.nodes or ()
        for image in (node.get("status") or {}).get("images") or ()
        for name in image.get("names") or ()
    }
    if examples := sorted(image for image in named - loaded if _EXAMPLE.search(image)):
        return missing(
            "images",
            f"{', '.join(examples)} are placeholders for images of your own",
            "deploy/images.sh <your registry>",
            f"or, in kind, build and load them: kind load docker-image {' '.join(examples)}",
        )
    if local := sorted(image for image in named - loaded if image.startswith("localhost/")):
        load = f"build and load it, such as by kind load docker-image {' '.join(local)}"
        return missing("images", f"no node has {', '.join(local)}, which is of no registry", load)
    return ok("images", ", ".join(sorted(named)))


def refusals(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Findings for the manifests that the server refused in a dry run."""
    for name, why in (facts.refusals or {}).items():
        fixes = [f"kubectl apply --dry-run=server {manifests.source}"]
        if name.startswith("Ray") and "field" in why:
            fixes.append(f"if the field is right, the CRDs are older than 1.7: {CRDS}")
        yield missing("manifests", f"the cluster refuses {name}: {why}", *fixes)


def runtime(manifests: Manifests, facts: Facts) -> Iterator[Finding]:
    """Checks the container runtime of pods with GPUs."""
    pods = wanted(manifests.objects)
    named = {each.spec["runtimeClassName"] for each in pods if "runtimeClassName" in each.spec}
    there = {each["metadata"]["name"] for each in facts.runtime_classes or ()}
    component = "deploy/components/nvidia-runtime"
    if facts.runtime_classes is not None and named - there:
        yield missing(
            "runtime",
            f"there is no RuntimeClass {', '.join(sorted(named - there))}",
            f"install NVIDIA's container toolkit, or leave {component} out",
        )
    elif not named and any(each.gpus for each in pods) and _RANCHER.search(facts.version):
        yield caution(
            "runtime",
            "k3s and RKE2 give GPUs to pods of the RuntimeClass nvidia alone, unless that is their "
            "default runtime",
            f"add {component} to the components of an overlay",
        )
