"""Rules of reference: what one manifest names must exist in another."""

from collections.abc import Iterator

from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import Pod, pods
from serving.deploy.lint.rules import Report, report_on
from serving.deploy.manifests import Manifests
from serving.deploy.objects import Object
from serving.deploy.pods import secrets
from serving.deploy.selectors import selects

SECRETS = {
    "hf-token": "HF_TOKEN",
    "redis-password": "password",
    "ray-auth-token": "auth_token",
    "api-keys": "keys.json",
    "admin-key": "key",
}
"""The Secrets that deploy/secrets.sh makes, each with its key. Others are the user's own."""

_BUILT_IN = {
    ("ConfigMap", "kube-root-ca.crt"),
    ("PriorityClass", "system-cluster-critical"),
    ("PriorityClass", "system-node-critical"),
    ("ServiceAccount", "default"),
}
"""Objects that each cluster or namespace has."""

_CLUSTER_WIDE = {
    *("Namespace", "PriorityClass", "GatewayClass", "StorageClass", "PersistentVolume"),
    *("CustomResourceDefinition", "IngressClass", "RuntimeClass", "ResourceFlavor"),
}


def problems(manifests: Manifests) -> Iterator[Finding]:
    yield from _places(manifests)
    existing = {(obj["kind"], obj["metadata"]["name"]) for obj in manifests.objects} | _BUILT_IN
    for subject, kind, name in _references(manifests):
        if name is not None and (kind, name) not in existing:
            yield report_on(subject, "references")("missing", f"there is no {kind} {name}")
    for pod in pods(manifests):
        wrong = report_on(pod.owner, "references")
        yield from _volumes(pod, manifests, wrong)
        yield from _config_keys(pod, manifests, wrong)
        for constraint in pod.spec.get("topologySpreadConstraints", ()):
            if not selects(constraint.get("labelSelector"), pod.labels):
                yield wrong("topology-spread", "its topologySpreadConstraint does not select it")
    for obj in manifests.objects:
        for name, keys in secrets([obj]).items():
            known = SECRETS.get(name)
            for key in keys.keys() - {known} if known else ():
                message = f"the Secret {name} has no key {key}, only {known}"
                yield report_on(named(obj), "references")("secret-key", message)


def _places(manifests: Manifests) -> Iterator[Finding]:
    """Checks that each object is in a namespace that exists, and only once."""
    namespaces = {obj["metadata"]["name"] for obj in manifests.of_kind("Namespace")}
    seen = set()
    for obj in manifests.objects:
        wrong, kind = report_on(named(obj), "references"), obj["kind"]
        namespace = obj["metadata"].get("namespace")
        if kind in _CLUSTER_WIDE or kind.startswith("Cluster"):
            if namespace is not None:
                yield wrong("cluster-wide", f"a {kind} belongs to the whole cluster, no namespace")
        elif namespace is None:
            yield wrong("no-namespace", "has no namespace, and would land in the current one")
        elif namespace not in namespaces:
            yield wrong("namespace", f"no manifest makes its namespace {namespace}")
        identity = (obj["apiVersion"].rpartition("/")[0], named(obj))
        if identity in seen:
            yield wrong("duplicate", "stands twice in the manifests")
        seen.add(identity)


def _references(manifests: Manifests) -> Iterator[tuple[str, str, str | None]]:
    """What refers to another object, and the kind and the name of that."""
    for pod in pods(manifests):
        yield pod.owner, "ServiceAccount", pod.spec.get("serviceAccountName")
        yield pod.owner, "PriorityClass", pod.spec.get("priorityClassName")
        for volume in pod.spec.get("volumes", ()):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            yield pod.owner, "PersistentVolumeClaim", claim
        for config_map in _config_maps(pod):
            if not config_map.get("optional"):
                yield pod.owner, "ConfigMap", config_map["name"]
    for stateful_set in manifests.of_kind("StatefulSet"):
        yield named(stateful_set), "Service", stateful_set["spec"].get("serviceName")
    for binding in manifests.of_kind("RoleBinding"):
        for named_by_it in [binding["roleRef"], *binding.get("subjects", ())]:
            if named_by_it["kind"] in ("Role", "ServiceAccount"):
                yield named(binding), named_by_it["kind"], named_by_it["name"]


def _config_maps(pod: Pod) -> Iterator[Object]:
    for volume in pod.spec.get("volumes", ()):
        for source in [volume, *volume.get("projected", {}).get("sources", ())]:
            if "configMap" in source:
                yield source["configMap"]


def _config_keys(pod: Pod, manifests: Manifests, wrong: Report) -> Iterator[Finding]:
    """Checks the keys that a pod takes from ConfigMaps."""
    wanted = [(each["name"], item["key"]) for each in _config_maps(pod)
              for item in each.get("items", ())]  # fmt: skip
    for variable in [v for container in pod.containers for v in container.get("env", ())]:
        if reference := variable.get("valueFrom", {}).get("configMapKeyRef"):
            wanted.append((reference["name"], reference["key"]))
    maps = {obj["metadata"]["name"]: obj.get("data", {}) for obj in manifests.of_kind("ConfigMap")}
    for name, key in wanted:
        if name in maps and key not in maps[name]:
            yield wrong("config-map-key", f"there is no key {key} in the ConfigMap {name}")


def _volumes(pod: Pod, manifests: Manifests, wrong: Report) -> Iterator[Finding]:
    volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
    claims = {
        template["metadata"]["name"]
        for stateful_set in manifests.of_kind("StatefulSet")
        if named(stateful_set) == pod.owner
        for template in stateful_set["spec"].get("volumeClaimTemplates", ())
    }
    mounted = {m["name"] for c in pod.containers for m in c.get("volumeMounts", ())}
    for name in sorted(mounted - volumes - claims):
        yield wrong("no-volume", f"mounts {name}, which is no volume of it")
    # api-token is mounted by the autoscaler's container, which the Job that cleans Redis lacks.
    for name in sorted(volumes - mounted - {"api-token"}):
        yield wrong("unused-volume", f"the volume {name} is mounted nowhere")
