"""Which kinds the server knows, and the OpenAPI schema of each."""

import functools
import gzip
import importlib.resources
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.defaults import DEFAULTS

Object = dict[str, Any]
Schema = dict[str, Any]

# The newest Kubernetes that the installed kubectl is made for.
KUBERNETES_VERSION = "1.32"
_REFERENCE = "#/$defs/"

# apiVersion, kind, plural, short names; cluster-scoped kinds are marked with a star.
_BUILT_IN = """
v1 Namespace *namespaces ns
v1 Node *nodes no
v1 PersistentVolume *persistentvolumes pv
v1 ConfigMap configmaps cm
v1 Endpoints endpoints ep
v1 Event events ev
v1 LimitRange limitranges limits
v1 PersistentVolumeClaim persistentvolumeclaims pvc
v1 Pod pods po
v1 ResourceQuota resourcequotas quota
v1 Secret secrets
v1 Service services svc
v1 ServiceAccount serviceaccounts sa
apps/v1 ControllerRevision controllerrevisions
apps/v1 DaemonSet daemonsets ds
apps/v1 Deployment deployments deploy
apps/v1 ReplicaSet replicasets rs
apps/v1 StatefulSet statefulsets sts
batch/v1 CronJob cronjobs cj
batch/v1 Job jobs
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers hpa
coordination.k8s.io/v1 Lease leases
discovery.k8s.io/v1 EndpointSlice endpointslices
networking.k8s.io/v1 Ingress ingresses ing
networking.k8s.io/v1 IngressClass *ingressclasses
networking.k8s.io/v1 NetworkPolicy networkpolicies netpol
policy/v1 PodDisruptionBudget poddisruptionbudgets pdb
rbac.authorization.k8s.io/v1 ClusterRole *clusterroles
rbac.authorization.k8s.io/v1 ClusterRoleBinding *clusterrolebindings
rbac.authorization.k8s.io/v1 Role roles
rbac.authorization.k8s.io/v1 RoleBinding rolebindings
scheduling.k8s.io/v1 PriorityClass *priorityclasses pc
storage.k8s.io/v1 StorageClass *storageclasses sc
storage.k8s.io/v1 CSIDriver *csidrivers
apiextensions.k8s.io/v1 CustomResourceDefinition *customresourcedefinitions crd
authorization.k8s.io/v1 SelfSubjectAccessReview *selfsubjectaccessreviews
"""

# What `kubectl get all` means.
_ALL = ("Pod", "Service", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


@dataclass(frozen=True, eq=False)
class Kind:
    """One served version of one kind. A `$ref` in `schema` leads into `definitions()`."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool
    schema: Schema
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    custom: bool = False
    has_status: bool = False
    # What its users are warned of.
    deprecation: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> tuple[str, str]:
        """What the store's keys and a permission name: the group and the plural."""
        return self.group, self.plural


@functools.cache
def definitions() -> dict[str, Schema]:
    """The schemas of everything built in, by Kubernetes' name for each, with their defaults."""
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{KUBERNETES_VERSION}.0-local" / "_definitions.json").read_text()
    found: dict[str, Schema] = json.loads(text)["$defs"]
    for name, fields in DEFAULTS.items():
        for field, value in fields.items():
            found[name]["properties"][field] = {
                **found[name]["properties"][field],
                "default": value,
            }
    return found


def resolve(schema: Schema) -> Schema:
    """The schema itself, or the definition that it refers to, with its own default kept."""
    while "$ref" in schema:
        found = definitions()[schema["$ref"].removeprefix(_REFERENCE)]
        schema = {**found, "default": schema["default"]} if "default" in schema else found
    return schema


def definition(name: str) -> Schema:
    return {"$ref": _REFERENCE + name}


@functools.cache
def built_in_kinds() -> tuple[Kind, ...]:
    by_gvk = {
        (gvk["group"], gvk["version"], gvk["kind"]): name
        for name, schema in definitions().items()
        for gvk in schema.get("x-kubernetes-group-version-kind", ())
    }
    kinds = []
    for line in _BUILT_IN.strip().splitlines():
        api_version, kind, plural, *short_names = line.split()
        group, _, version = api_version.rpartition("/")
        name = by_gvk[group, version, kind]
        kinds.append(
            Kind(
                group=group,
                version=version,
                name=kind,
                plural=plural.removeprefix("*"),
                namespaced=not plural.startswith("*"),
                schema=definition(name),
                short_names=tuple(short_names),
                categories=("all",) if kind in _ALL else (),
                has_status="status" in definitions()[name]["properties"],
            )
        )
    return tuple(kinds)


def custom_kinds(crd: Object) -> tuple[Kind, ...]:
    """The served versions that a CustomResourceDefinition adds, the stored one first."""
    spec = crd["spec"]
    names = spec["names"]
    every_object = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": definition("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    }

    def kind(version: Object) -> Kind:
        schema = version["schema"]["openAPIV3Schema"]
        deprecation = f"{spec['group']}/{version['name']} {names['kind']} is deprecated"
        return Kind(
            group=spec["group"],
            version=version["name"],
            name=names["kind"],
            plural=names["plural"],
            namespaced=spec["scope"] == "Namespaced",
            schema=schema | {"properties": schema.get("properties", {}) | every_object},
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            custom=True,
            has_status="status" in version.get("subresources", {}),
            deprecation=deprecation if version.get("deprecated") else "",
        )

    versions = sorted(spec["versions"], key=lambda version: not version["storage"])
    return tuple(kind(version) for version in versions if version["served"])


@functools.cache
def published_crds() -> tuple[Object, ...]:
    """The custom resource definitions that lie beside this file."""
    folder = Path(__file__).parent / "crds"
    texts = [gzip.decompress(file.read_bytes()) for file in sorted(folder.glob("*.yaml.gz"))]
    texts += [file.read_bytes() for file in sorted((folder / "own").glob("*.yaml"))]
    return tuple(yaml.load(text, yaml.CSafeLoader) for text in texts)
