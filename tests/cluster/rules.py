"""What the API server checks of built-in kinds and no schema says.

Names and labels, references inside a pod, selectors against templates, fields that never change.
"""

import re
from collections.abc import Iterator
from typing import Any

from tests.cluster.errors import Cause, duplicate, invalid_value, required
from tests.cluster.pod_rules import pod_causes
from tests.cluster.schemas import Kind, Object
from tests.cluster.selectors import label_selector_matches

# The keys of all annotations and their values together, in bytes.
ANNOTATIONS_LIMIT_BYTES = 262_144

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(rf"{_LABEL.pattern}(\.{_LABEL.pattern})*")
_QUALIFIED = re.compile(rf"({_SUBDOMAIN.pattern}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
# RBAC's names are free; a Service's and a Namespace's are labels of DNS.
_FREE_NAMES = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
_LABEL_NAMES = {"Service", "Namespace"}

_IMMUTABLE = {
    "Deployment": ("spec.selector",),
    "StatefulSet": (
        "spec.selector", "spec.serviceName", "spec.podManagementPolicy",
        "spec.volumeClaimTemplates",
    ),
    "DaemonSet": ("spec.selector",),
    "Job": ("spec.selector", "spec.template", "spec.completions", "spec.completionMode"),
    "Service": ("spec.clusterIP",),
    "PersistentVolumeClaim": (
        "spec.accessModes", "spec.storageClassName", "spec.volumeMode", "spec.selector",
    ),
    "PriorityClass": ("value", "preemptionPolicy"),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "StorageClass": ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    "Pod": ("spec.containers", "spec.volumes", "spec.serviceAccountName"),
}  # fmt: skip


def causes(kind: Kind, new: Object, old: Object | None) -> Iterator[Cause]:
    yield from _metadata(kind, new["metadata"])
    if kind.custom:
        return
    template = pod_template(new)
    if template is not None:
        path, metadata, spec = template
        yield from _labels(f"{path}metadata.labels", metadata.get("labels", {}))
        claims = new["spec"].get("volumeClaimTemplates") or ()
        volumes = [claim["metadata"]["name"] for claim in claims]
        yield from pod_causes(f"{path}spec", spec, volumes)
        yield from _template(kind, new, metadata, spec)
    yield from _KINDS.get(kind.name, lambda _: ())(new)
    if old is not None:
        yield from _unchanged(kind, new, old)


def pod_template(obj: Object) -> tuple[str, Object, Object] | None:
    """The path, metadata and spec of the pods that an object of a built-in kind makes."""
    match obj["kind"]:
        case "Pod":
            return "", obj["metadata"], obj["spec"]
        case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job":
            found, path = obj["spec"]["template"], "spec.template."
        case "CronJob":
            found, path = (
                obj["spec"]["jobTemplate"]["spec"]["template"],
                ("spec.jobTemplate.spec.template."),
            )
        case _:
            return None
    return path, found.get("metadata", {}), found.get("spec", {})


def _metadata(kind: Kind, metadata: Object) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind.name in _LABEL_NAMES and (len(name) > 63 or not _LABEL.fullmatch(name)):
        yield invalid_value("metadata.name", name, "a lowercase RFC 1123 label is needed")
    elif kind.name not in _FREE_NAMES and (len(name) > 253 or not _SUBDOMAIN.fullmatch(name)):
        yield invalid_value("metadata.name", name, "a lowercase RFC 1123 subdomain is needed")
    yield from _labels("metadata.labels", metadata.get("labels", {}))
    annotations = metadata.get("annotations", {})
    for key in annotations:
        if not _QUALIFIED.fullmatch(key):
            yield invalid_value("metadata.annotations", key, "a qualified name is needed")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_LIMIT_BYTES:
        why = f"Too long: may not be more than {ANNOTATIONS_LIMIT_BYTES} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", why)


def _labels(path: str, labels: Object) -> Iterator[Cause]:
    for key, value in labels.items():
        if not _QUALIFIED.fullmatch(key):
            yield invalid_value(path, key, "a qualified name is needed")
        if not _VALUE.fullmatch(value):
            yield invalid_value(path, value, "a valid label must be alphanumeric, at most 63 long")


def _template(kind: Kind, obj: Object, metadata: Object, spec: Object) -> Iterator[Cause]:
    policy = spec.get("restartPolicy")
    if kind.name == "Job":
        if policy not in ("Never", "OnFailure"):
            yield Cause(
                "spec.template.spec.restartPolicy",
                "FieldValueNotSupported",
                f'Unsupported value: "{policy}": supported values: "OnFailure", "Never"',
            )
    elif kind.name in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        if policy != "Always":
            yield Cause(
                "spec.template.spec.restartPolicy",
                "FieldValueNotSupported",
                f'Unsupported value: "{policy}": supported values: "Always"',
            )
        selector = obj["spec"]["selector"]
        if not selector:
            yield invalid_value("spec.selector", {}, "empty selector is invalid")
        elif not label_selector_matches(selector, metadata.get("labels", {})):
            yield invalid_value(
                "spec.template.metadata.labels",
                metadata.get("labels", {}),
                "`selector` does not match template `labels`",
            )


def _service(service: Object) -> Iterator[Cause]:
    ports = service["spec"].get("ports", [])
    portless = service["spec"].get("type") == "ExternalName"
    if not ports and not portless and service["spec"].get("clusterIP") != "None":
        yield required("spec.ports")
    names = []
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        yield from _port(f"{path}.port", port["port"])
        if isinstance(port.get("targetPort"), int):
            yield from _port(f"{path}.targetPort", port["targetPort"])
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        if port.get("name") and port["name"] in names:
            yield duplicate(f"{path}.name", port["name"])
        names.append(port.get("name"))


def _network_policy(policy: Object) -> Iterator[Cause]:
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(policy["spec"].get(way, ())):
            for j, port in enumerate(rule.get("ports", ())):
                if isinstance(port.get("port"), int):
                    yield from _port(f"spec.{way}[{i}].ports[{j}].port", port["port"])
            for j, peer in enumerate(rule.get(peers, ())):
                path = f"spec.{way}[{i}].{peers}[{j}]"
                if not peer:
                    yield required(path, "must specify a peer")
                if "ipBlock" in peer and len(peer) > 1:
                    why = "Forbidden: may not specify both ipBlock and another peer"
                    yield Cause(path, "FieldValueForbidden", why)


def _disruption_budget(budget: Object) -> Iterator[Cause]:
    spec = budget["spec"]
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield invalid_value("spec", "", "minAvailable and maxUnavailable cannot be both set")


def _data(obj: Object) -> Iterator[Cause]:
    for field in ("data", "binaryData", "stringData"):
        for key in obj.get(field, {}):
            if not _KEY.fullmatch(key):
                yield invalid_value(field, key, "a valid config key must be alphanumeric, -, _, .")


def _claim(claim: Object) -> Iterator[Cause]:
    if not claim["spec"].get("accessModes"):
        yield required("spec.accessModes", "at least 1 access mode is required")
    if "storage" not in claim["spec"].get("resources", {}).get("requests", {}):
        yield required("spec.resources[storage]")


_KINDS: dict[str, Any] = {
    "Service": _service,
    "NetworkPolicy": _network_policy,
    "PodDisruptionBudget": _disruption_budget,
    "ConfigMap": _data,
    "Secret": _data,
    "PersistentVolumeClaim": _claim,
}


def _port(path: str, port: int) -> Iterator[Cause]:
    if not 0 < port < 65536:
        yield invalid_value(path, port, "must be between 1 and 65535, inclusive")


def _unchanged(kind: Kind, new: Object, old: Object) -> Iterator[Cause]:
    for path in _IMMUTABLE.get(kind.name, ()):
        before, after = _at(old, path), _at(new, path)
        if kind.name == "Pod" and path == "spec.containers":
            before, after = _imageless(before), _imageless(after)
        if before is not None and before != after:
            yield invalid_value(path, "object", "field is immutable")
    frozen = kind.name in ("ConfigMap", "Secret") and old.get("immutable")
    if frozen and new.get("data") != old.get("data"):
        why = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("data", "FieldValueForbidden", why)
    if kind.name == "Secret" and new.get("type") != old.get("type"):
        yield invalid_value("type", new.get("type"), "field is immutable")


def _at(obj: Object, path: str) -> Any:
    for name in path.split("."):
        obj = obj.get(name, {}) if isinstance(obj, dict) else {}
    return obj or None


def _imageless(containers: list[Object] | None) -> list[Object]:
    return [{**each, "image": ""} for each in containers or ()]
