"""Reads the facts that `preflight` judges."""

from collections.abc import Callable
from typing import TypeVar

from serving.deploy.errors import Conflict, Denied, DeployError, ServerTrouble, Unreachable
from serving.deploy.facts import Facts, Right
from serving.deploy.kube import Kube, named
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import secrets
from serving.deploy.rights import needed_rights

_AUTOSCALER = ("v1", "ConfigMap", "cluster-autoscaler-status", "kube-system")
_KARPENTER = ("karpenter.sh/v1", "NodePool")
_NO_TRIAL = "does not support dry run"
"""The message of an admission webhook that takes no dry run."""

Read = TypeVar("Read")


def survey(kube: Kube, manifests: Manifests) -> Facts:
    """The facts about a cluster; None stands for those that this user may not see. Raises
    DeployError if the cluster cannot be asked at all.
    """
    here = manifests.namespace
    version = kube.version()
    kinds = {
        (obj["apiVersion"], obj["kind"]): kube.has_kind(obj["apiVersion"], obj["kind"])
        for obj in manifests.objects
    }
    denied = _denied(kube, manifests, kinds)

    def listed(
        api_version: str, kind: str, namespace: str = "", labels: str = ""
    ) -> list[Object] | None:
        return _if_allowed(lambda: kube.find(api_version, kind, namespace, labels))

    return Facts(
        version=version,
        kinds=kinds,
        deployments=listed("apps/v1", "Deployment"),
        namespaces=listed("v1", "Namespace"),
        nodes=listed("v1", "Node"),
        pods=listed("v1", "Pod"),
        storage_classes=listed("storage.k8s.io/v1", "StorageClass"),
        volume_claims=listed("v1", "PersistentVolumeClaim", here),
        quotas=listed("v1", "ResourceQuota", here),
        secret_keys=_if_allowed(lambda: _secret_keys(kube, manifests)),
        denied=denied,
        refusals={} if denied else _if_allowed(lambda: _refusals(kube, manifests, kinds)),
        adds_nodes=bool(_if_allowed(lambda: _adds_nodes(kube))),
        limit_ranges=listed("v1", "LimitRange", here),
        csi_drivers=listed("storage.k8s.io/v1", "CSIDriver"),
        runtime_classes=listed("node.k8s.io/v1", "RuntimeClass"),
        prometheuses=listed("monitoring.coreos.com/v1", "Prometheus"),
        api_endpoints=listed(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            "default",
            "kubernetes.io/service-name=kubernetes",
        ),
    )


def _if_allowed(read: Callable[[], Read]) -> Read | None:
    try:
        return read()
    except Denied:
        return None


def _secret_keys(kube: Kube, manifests: Manifests) -> dict[str, set[str]]:
    """The keys of each Secret; values are dropped at once."""
    found = {}
    for name in secrets(manifests.objects):
        secret = kube.get("v1", "Secret", name, manifests.namespace)
        if secret is not None:
            found[name] = set(secret.get("data") or {})
    return found


def _denied(
    kube: Kube, manifests: Manifests, kinds: dict[tuple[str, str], bool]
) -> tuple[Right, ...]:
    resources = {
        kind: (kube.resource(*kind), kube.namespaced(*kind))
        for kind, known in kinds.items()
        if known
    }
    return tuple(
        right
        for right in needed_rights(manifests, resources)
        if not kube.may(right.verb, right.group, right.resource, right.namespace)
    )


def _refusals(
    kube: Kube, manifests: Manifests, kinds: dict[tuple[str, str], bool]
) -> dict[str, str]:
    """The manifests that the server refuses in a dry run, with the reasons. Those of a namespace
    that does not exist yet cannot be tried.
    """
    found = {}
    there = {"": True}
    for obj in manifests.objects:
        if not kinds[obj["apiVersion"], obj["kind"]]:
            continue
        namespace = obj["metadata"].get("namespace", "")
        if namespace not in there:
            there[namespace] = kube.get("v1", "Namespace", namespace) is not None
        if not there[namespace]:
            continue
        try:
            kube.apply(obj, dry_run=True)
        except (Unreachable, ServerTrouble, Conflict):
            raise
        except DeployError as error:
            anew = obj["kind"] == "Job" and "immutable" in str(error)
            if not anew and _NO_TRIAL not in str(error):
                found[named(obj)] = str(error).removeprefix(f"could not apply {named(obj)}: ")
    return found


def _adds_nodes(kube: Kube) -> bool:
    return kube.has_kind(*_KARPENTER) or kube.get(*_AUTOSCALER) is not None
