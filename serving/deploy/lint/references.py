"""Rules of reference: what one manifest names must exist in another."""

from collections.abc import Iterator

from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, Report, report_on
from serving.deploy.lint.pods import Pod, pods
from serving.deploy.manifests import Manifests, Object
from serving.deploy.selectors import selects

SECRETS = {
    "hf-token": {"HF_TOKEN"},
    "redis-password": {"password"},
    "ray-auth-token": {"auth_token"},
}
"""The Secrets that deploy/secrets.sh makes, and their keys. Others are the user's own."""

_BUILT_IN = {
    ("ConfigMap", "kube-root-ca.crt"),
    ("PriorityClass", "system-cluster-critical"),
    ("PriorityClass", "system-node-critical"),
}
"""Objects that each cluster has."""

_CLUSTER_WIDE = {
    *("Namespace", "PriorityClass", "GatewayClass", "StorageClass", "PersistentVolume"),
    *("CustomResourceDefinition", "IngressClass", "RuntimeClass", "ResourceFlavor"),
}


def problems(manifests: Manifests) -> Iterator[Finding]:
    yield from _places(manifests)
    for pod in pods(manifests):
        wrong = report_on(pod.owner, "references")
        yield from _pod(pod, manifests, wrong)
        yield from _volumes(pod, manifests, wrong)
    yield from _ray_secrets(manifests)
    yield from _bindings(manifests)


def _places(manifests: Manifests) -> Iterator[Finding]:
    """Checks that each object is in a namespace that exists, and only once."""
    namespaces = {obj["metadata"]["name"] for obj in manifests.of_kind("Namespace")}
    seen = set()
    for obj in manifests.objects:
        wrong = report_on(named(obj), "references")
        namespace = obj["metadata"].get("namespace")
        if obj["kind"] in _CLUSTER_WIDE or obj["kind"].startswith("Cluster"):
            if namespace is not None:
                yield wrong(
                    "cluster-wide",
                    f"has a namespace, and a {obj['kind']} belongs to the whole cluster",
                    "remove metadata.namespace",
                )
        elif namespace is None:
            yield wrong(
                "no-namespace",
                "has no namespace, and would land in the current one",
                "set metadata.namespace",
            )
        elif namespace not in namespaces:
            yield wrong(
                "namespace",
                f"no manifest makes its namespace {namespace}",
                f"add a Namespace {namespace}, or correct the name",
            )
        identity = (obj["apiVersion"].rpartition("/")[0], named(obj))
        if identity in seen:
            yield wrong("duplicate", "stands twice in the manifests", "remove one of the two")
        seen.add(identity)


def has(manifests: Manifests, kind: str, name: str) -> bool:
    """Whether the manifests have it, or each cluster does."""
    names = [obj["metadata"]["name"] for obj in manifests.of_kind(kind)]
    return (kind, name) in _BUILT_IN or name in names


def _pod(pod: Pod, manifests: Manifests, wrong: Report) -> Iterator[Finding]:
    spec = pod.spec
    for kind, name in (
        ("ServiceAccount", spec.get("serviceAccountName")),
        ("PriorityClass", spec.get("priorityClassName")),
    ):
        if name not in (None, "default") and not has(manifests, kind, name):
            yield wrong("pod-needs", f"there is no {kind} {name}", "add it, or correct the name")
    for constraint in spec.get("topologySpreadConstraints", ()):
        if not selects(constraint.get("labelSelector"), pod.labels):
            yield wrong(
                "topology-spread",
                "its topologySpreadConstraint does not select it",
                "give the constraint's labelSelector the pod's own labels",
            )
    for container in pod.containers:
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            if reference := source.get("secretKeyRef"):
                yield from _secret_key(variable["name"], reference, wrong)
            if reference := source.get("configMapKeyRef"):
                yield from _config_key(reference["name"], reference["key"], manifests, wrong)


def _secret_key(what: str, reference: Object, wrong: Report) -> Iterator[Finding]:
    name, key = reference["name"], reference["key"]
    keys = SECRETS.get(name)
    if keys is not None and key not in keys:
        yield wrong(
            "secret-key",
            f"{what}: there is no key {key} in the Secret {name}",
            f"take the key {', '.join(keys)}, or a Secret of your own",
        )


def _config_key(name: str, key: str, manifests: Manifests, wrong: Report) -> Iterator[Finding]:
    maps = [o for o in manifests.of_kind("ConfigMap") if o["metadata"]["name"] == name]
    if maps and not any(key in obj.get("data", {}) for obj in maps):
        yield wrong(
            "config-map-key",
            f"there is no key {key} in the ConfigMap {name}",
            "add it there, or correct the key",
        )


def _volumes(pod: Pod, manifests: Manifests, wrong: Report) -> Iterator[Finding]:
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    claims = {
        template["metadata"]["name"]
        for stateful_set in manifests.of_kind("StatefulSet")
        if named(stateful_set) == pod.owner
        for template in stateful_set["spec"].get("volumeClaimTemplates", ())
    }
    mounted = {m["name"] for c in pod.containers for m in c.get("volumeMounts", ())}
    for name in sorted(mounted - volumes.keys() - claims):
        yield wrong(
            "no-volume", f"mounts {name}, which is no volume of it", "add it to the pod's volumes"
        )
    # api-token is mounted by the autoscaler's container, which the Job that cleans Redis lacks.
    for name in sorted(volumes.keys() - mounted - {"api-token"}):
        yield wrong(
            "unused-volume", f"the volume {name} is mounted nowhere", "mount it, or remove it"
        )
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None and not has(manifests, "PersistentVolumeClaim", claim):
            yield wrong(
                "claim", f"there is no PersistentVolumeClaim {claim}", "add it, or correct the name"
            )
        for source in [volume, *volume.get("projected", {}).get("sources", ())]:
            if config_map := source.get("configMap"):
                if not has(manifests, "ConfigMap", config_map["name"]):
                    yield wrong(
                        "config-map",
                        f"there is no ConfigMap {config_map['name']}",
                        "add it, or correct the name",
                    )
                for item in config_map.get("items", ()):
                    yield from _config_key(config_map["name"], item["key"], manifests, wrong)


def _ray_secrets(manifests: Manifests) -> Iterator[Finding]:
    wrong = report_on(named(manifests.service), "references")
    cluster = manifests.service["spec"]["rayClusterConfig"]
    if secret := cluster.get("authOptions", {}).get("secretName"):
        yield from _secret_key("authOptions", {"name": secret, "key": "auth_token"}, wrong)
    redis = cluster.get("gcsFaultToleranceOptions", {})
    if reference := redis.get("redisPassword", {}).get("valueFrom", {}).get("secretKeyRef"):
        yield from _secret_key("redisPassword", reference, wrong)


def _bindings(manifests: Manifests) -> Iterator[Finding]:
    for binding in manifests.of_kind("RoleBinding"):
        wrong = report_on(named(binding), "references")
        role, accounts = binding["roleRef"], binding.get("subjects", ())
        if role["kind"] == "Role" and not has(manifests, "Role", role["name"]):
            yield wrong("role", f"there is no Role {role['name']}", "add it, or correct the name")
        for subject in accounts:
            if subject["kind"] == "ServiceAccount" and not (
                subject["name"] == "default" or has(manifests, "ServiceAccount", subject["name"])
            ):
                yield wrong(
                    "role-subject",
                    f"there is no ServiceAccount {subject['name']}",
                    "add it, or correct the name",
                )
