"""What admission fills in and refuses, between the schema and the store.

Namespaces get their label, pods their service account and priority; pods are held against pod
security, the service account's existence and resource quotas.
"""

import base64

from tests.cluster import pod_security, quota
from tests.cluster.errors import forbidden
from tests.cluster.rules import pod_template
from tests.cluster.schemas import Kind, Object
from tests.cluster.store import Store


def mutated(store: Store, kind: Kind, new: Object) -> Object:
    match kind.name if not kind.custom else "":
        case "Namespace":
            labels = {"kubernetes.io/metadata.name": new["metadata"].get("name", "")}
            new["metadata"]["labels"] = new["metadata"].get("labels", {}) | labels
            new["status"] = {"phase": "Active"} | new.get("status", {})
        case "Secret" if "stringData" in new:
            new = _encoded(new)
        case "Service":
            for port in new["spec"].get("ports", ()):
                port.setdefault("targetPort", port["port"])
            old = store.get(kind.resource, new["metadata"].get("namespace", ""),
                            new["metadata"].get("name", ""))  # fmt: skip
            if new["spec"].get("type") != "ExternalName":
                given = old["spec"]["clusterIP"] if old else f"10.96.0.{store.version % 250 + 1}"
                new["spec"].setdefault("clusterIP", given)
        case "Pod":
            new["spec"].setdefault("serviceAccountName", "default")
            new["status"] = {"phase": "Pending"} | new.get("status", {})
        case "PriorityClass" if not new.get("globalDefault"):
            new.pop("globalDefault", None)  # Go leaves a false out of its JSON
        case "PersistentVolumeClaim":
            new["status"] = {"phase": "Pending"} | new.get("status", {})
    return new


def admit(store: Store, kind: Kind, new: Object) -> list[str]:
    """Warnings for a new object; ApiError if it may not be."""
    if kind.namespaced and not kind.custom:
        quota.admit(store, kind, new)
    template = None if kind.custom else pod_template(new)
    if template is None:
        return []
    _, _, spec = template
    namespace = new["metadata"]["namespace"]
    home = store.get(("", "namespaces"), "", namespace) or {"metadata": {}}
    labels = home["metadata"].get("labels", {})
    warnings = _pod_security(kind, new, spec, labels)
    if kind.name == "Pod":
        name = new["metadata"]["name"]
        account = spec.get("serviceAccountName", "default")
        if not store.has(("", "serviceaccounts"), namespace, account):
            why = (
                f"error looking up service account {namespace}/{account}: "
                f'serviceaccount "{account}" not found'
            )
            raise forbidden("", "pods", name, why)
        priority = spec.get("priorityClassName")
        classes = ("scheduling.k8s.io", "priorityclasses")
        built_in = ("system-node-critical", "system-cluster-critical")
        if priority and priority not in built_in and not store.has(classes, "", priority):
            raise forbidden("", "pods", name, f"no PriorityClass with name {priority} was found")
    return warnings


def _pod_security(kind: Kind, new: Object, spec: Object, labels: dict[str, str]) -> list[str]:
    """Only pods are refused; what makes pods gets a warning at most, as on a real server."""
    level = labels.get(f"{pod_security.LABEL}enforce", "privileged")
    found = pod_security.violations(level, spec)
    if kind.name == "Pod" and found:
        why = pod_security.message(level, found)
        raise forbidden("", "pods", new["metadata"]["name"], why)
    level = labels.get(f"{pod_security.LABEL}warn", "privileged")
    found = pod_security.violations(level, spec)
    return [f"would {pod_security.message(level, found)}".replace("violates", "violate")] * bool(
        found
    )


def _encoded(secret: Object) -> Object:
    encoded = {
        key: base64.b64encode(value.encode()).decode()
        for key, value in secret["stringData"].items()
    }
    kept = {name: value for name, value in secret.items() if name != "stringData"}
    return kept | {"data": secret.get("data", {}) | encoded}
