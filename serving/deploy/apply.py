"""Applies manifests, as `kubectl apply --server-side --force-conflicts` does."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from serving.deploy.errors import DeployError, Terminating, Unreachable
from serving.deploy.kube import MANAGER, Kube, named
from serving.deploy.objects import Object, is_ending

_CLIENT_SIDE = "kubectl-client-side-apply"


@dataclass(frozen=True)
class Applied:
    """What became of an object: created, changed, recreated, unchanged, or refused."""

    obj: Object
    what: str
    error: DeployError | None = None


def apply_all(kube: Kube, objects: Iterable[Object]) -> Iterator[Applied]:
    """Applies one object after the other, past those that are refused. Raises Unreachable, and
    Terminating if the namespace is being deleted.
    """
    for obj in objects:
        try:
            yield Applied(obj, apply(kube, obj))
        except (Unreachable, Terminating):
            raise
        except DeployError as error:
            yield Applied(obj, "refused", error)


def apply(kube: Kube, obj: Object) -> str:
    """Applies an object and tells what became of it. Raises DeployError.

    A Job cannot be changed, so a new one takes its place.
    """
    obj = placed(kube, obj)
    live = kube.live(obj)
    if live is None:
        kube.apply(obj)
        return "created"
    if obj["kind"] == "Namespace" and is_ending(live):
        raise Terminating(obj["metadata"]["name"])
    adopt(kube, live)
    try:
        new = kube.apply(obj)
    except DeployError as error:
        if obj["kind"] != "Job" or "immutable" not in str(error):
            raise
        kube.delete(live)
        kube.apply(obj)
        return "recreated"
    same = new["metadata"].get("generation") == live["metadata"].get("generation")
    return "unchanged" if same and stripped(new) == stripped(live) else "changed"


def placed(kube: Kube, obj: Object) -> Object:
    """The object with the namespace that kubectl would take."""
    if "namespace" in obj["metadata"] or not kube.namespaced(obj["apiVersion"], obj["kind"]):
        return obj
    return obj | {"metadata": obj["metadata"] | {"namespace": "default"}}


_KEPT_BY_SERVER = (
    *("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"),
    *("finalizers", "ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"),
)


def stripped(obj: Object) -> Object:
    """The object without the fields that the server keeps about it."""
    metadata = {
        key: value for key, value in obj.get("metadata", {}).items() if key not in _KEPT_BY_SERVER
    }
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    metadata["annotations"] = annotations
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return rest | {"metadata": {key: value for key, value in metadata.items() if value}}


def adopt(kube: Kube, live: Object) -> None:
    """Takes over the fields of an earlier `kubectl apply` without --server-side, as kubectl does:
    otherwise fields that the manifests no longer have would stay.
    """
    managed = live["metadata"].get("managedFields") or []
    fields = adopted(managed)
    if fields != managed:
        kube.patch(
            live,
            [
                {"op": "replace", "path": "/metadata/managedFields", "value": fields},
                {
                    "op": "replace",
                    "path": "/metadata/resourceVersion",
                    "value": live["metadata"]["resourceVersion"],
                },
            ],
        )


def adopted(managed: list[Object]) -> list[Object]:
    """The managedFields, with those of client-side apply moved to server-side apply."""

    def ours(entry: Object) -> bool:
        client = (entry["manager"], entry["operation"]) == (_CLIENT_SIDE, "Update")
        server = (entry["manager"], entry["operation"]) == (MANAGER, "Apply")
        return (client or server) and not entry.get("subresource")

    if not any(ours(entry) and entry["operation"] == "Update" for entry in managed):
        return managed
    mine = [entry for entry in managed if ours(entry)]
    fields: Object = {}
    for entry in mine:
        fields = _union(fields, entry.get("fieldsV1") or {})
    joined = mine[0] | {"manager": MANAGER, "operation": "Apply", "fieldsV1": fields}
    return [joined, *(entry for entry in managed if not ours(entry))]


def _union(one: Object, other: Object) -> Object:
    return one | {key: _union(one.get(key) or {}, value) for key, value in other.items()}


def refusals(results: Iterable[Applied]) -> list[DeployError]:
    return [result.error for result in results if result.error is not None]


def line(result: Applied) -> str:
    return f"{result.what.ljust(10)}{named(result.obj)}"
