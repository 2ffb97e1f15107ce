"""What a request does to an object: decode, admit, validate, keep."""

import itertools
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.cluster import admission, namespaces, patches, rules, server_side_apply, validation
from tests.cluster.errors import (
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
)
from tests.cluster.fields import pruned, with_defaults, without_nulls
from tests.cluster.schemas import KUBERNETES_VERSION, Kind, Object, built_in_kinds, custom_kinds
from tests.cluster.selectors import fields_match, labels_match
from tests.cluster.store import Key, Store, copied

_CRDS = ("apiextensions.k8s.io", "customresourcedefinitions")
NAMESPACES = ("", "namespaces")
PODS = ("", "pods")
# API groups that no controller of these tests reads: half of what an overlay applies.
_UNREAD_GROUPS = ("networking.k8s.io", "rbac.authorization.k8s.io", "monitoring.coreos.com")


@dataclass(frozen=True)
class Options:
    """The query of a write."""

    dry_run: bool = False
    field_validation: str = "Warn"
    manager: str = "test"
    force: bool = False


class Api:
    """Every write goes through here, a client's and a controller's; errors are ApiError.

    `warnings` of the last write are for the response's headers.
    """

    def __init__(self) -> None:
        self.store = Store()
        # By resource: of several versions the one that is stored.
        self.kinds: dict[tuple[str, str], Kind] = {kind.resource: kind for kind in built_in_kinds()}
        self.served: list[Kind] = list(built_in_kinds())
        # Called with each object after it changed, until nothing changes any more.
        self.controllers: list[Callable[[], None]] = []
        # What the server says that it is.
        self.kubernetes_version = KUBERNETES_VERSION
        self._reconciling = False
        self._names = itertools.count(1)

    def kind_of(self, api_version: str, kind: str) -> Kind | None:
        return next(
            (k for k in self.served if (k.api_version, k.name) == (api_version, kind)),
            None,
        )

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        found = self.store.get(kind.resource, namespace, name)
        if found is None:
            raise not_found(kind.group, kind.plural, name)
        return found | {"apiVersion": kind.api_version}

    def find(
        self, kind: Kind, namespace: str = "", labels: str = "", fields: str = ""
    ) -> list[Object]:
        return [
            found | {"apiVersion": kind.api_version}
            for found in self.store.objects(kind.resource, namespace)
            if selected(found, labels, fields)
        ]

    def create(
        self,
        kind: Kind,
        namespace: str,
        body: Object,
        options: Options = Options(),
        *,
        applied: Object | None = None,
    ) -> tuple[Object, list[str]]:
        """The object as kept, and warnings. `applied`: what a server-side apply stated of it."""
        with self.store.changed:
            new, warnings = self._decoded(kind, namespace, body, options)
            metadata = new["metadata"]
            if "name" not in metadata and "generateName" in metadata:
                metadata["name"] = f"{metadata['generateName']}{next(self._names):05x}"
            name = metadata.get("name", "")
            if self.store.has(kind.resource, namespace, name):
                raise already_exists(kind.group, kind.plural, name)
            self._require_namespace(kind, namespace, name)
            if kind.has_status:
                new.pop("status", None)
            metadata |= {
                "uid": str(uuid.uuid4()),
                "generation": 1,
                "creationTimestamp": now(),
            }
            new = admission.mutated(self.store, kind, new)
            self._check(kind, new, None)
            warnings += admission.admit(self.store, kind, new)
            if applied is None:
                new = server_side_apply.updated(kind.schema, None, new, options.manager)
            else:
                fields = set(server_side_apply.fields_of(kind.schema, applied))
                new = server_side_apply.with_owners(new, {(options.manager, "Apply"): fields})
            return self._kept(kind, new, options), warnings

    def update(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Object,
        options: Options = Options(),
        *,
        status: bool = False,
    ) -> tuple[Object, list[str]]:
        with self.store.changed:
            old = self.get(kind, namespace, name)
            new, warnings = self._decoded(kind, namespace, body, options)
            return self._replaced(kind, old, new, options, status), warnings

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        content_type: str,
        patch: Any,
        options: Options = Options(),
        *,
        status: bool = False,
    ) -> tuple[Object, list[str]]:
        with self.store.changed:
            if content_type == "application/apply-patch+yaml":
                return self._applied(kind, namespace, name, patch, options, status)
            old = self.get(kind, namespace, name)
            match content_type:
                case "application/strategic-merge-patch+json" if not kind.custom:
                    new = patches.strategic(kind.schema, copied(old), patch)
                case "application/merge-patch+json":
                    new = patches.merge(copied(old), patch)
                case "application/json-patch+json":
                    new = patches.json_patch(old, patch)
                case _:
                    raise bad_request(f"{content_type} is no patch of a {kind.name}")
            new, warnings = self._decoded(kind, namespace, new, options)
            return self._replaced(kind, old, new, options, status), warnings

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        orphan: bool = False,
        dry_run: bool = False,
        grace_s: int | None = None,
    ) -> Object:
        """The object as it was; kept, with a deletionTimestamp, as long as it has finalizers.

        A namespace is kept until `empty_namespaces`.
        """
        with self.store.changed:
            found = self.get(kind, namespace, name)
            if dry_run:
                return found
            if found["metadata"].get("finalizers") or kind.resource == NAMESPACES:
                if kind.resource == PODS:
                    default_s = found["spec"].get("terminationGracePeriodSeconds", 30)
                    grace_s = default_s if grace_s is None else grace_s
                    found["metadata"]["deletionGracePeriodSeconds"] = grace_s
                    self.store.put(kind.resource, found)
                if "deletionTimestamp" not in found["metadata"]:
                    found["metadata"]["deletionTimestamp"] = now()
                    if kind.resource == NAMESPACES:
                        found["status"]["phase"] = "Terminating"
                    self.store.put(kind.resource, found)
                    self.reconcile()
                return found
            self._remove(kind, found, orphan)
            self.reconcile()
            return found

    def empty_namespaces(self) -> None:
        """Empties the deleted namespaces, as their controller does soon after. One in which an
        object keeps its finalizers stays, and its status says so.
        """
        with self.store.changed:
            for found in self.store.objects(NAMESPACES):
                if "deletionTimestamp" in found["metadata"]:
                    self._empty(found)

    def _empty(self, namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        for resource, _, each in self.store.matching(lambda key, _: key[1] == name):
            if self.store.has(resource, name, each):
                self.delete(self.kinds[resource], name, each)
        left = [self.store.get(*key) for key in self.store.matching(lambda key, _: key[1] == name)]
        namespace["status"]["conditions"] = namespaces.remaining([obj for obj in left if obj])
        if not left:
            self._remove(self.kinds[NAMESPACES], namespace, orphan=False)
            self.reconcile()
        elif namespace != self.store.get(NAMESPACES, "", name):
            self.store.put(NAMESPACES, namespace)

    def reconcile(self) -> None:
        """Lets the controllers react until they are done."""
        if self._reconciling:
            return
        self._reconciling = True
        try:
            for _ in range(100):
                before = self.store.version
                for controller in self.controllers:
                    controller()
                if self.store.version == before:
                    return
            raise AssertionError("the controllers of the test server never come to rest")
        finally:
            self._reconciling = False

    def install_crd(self, crd: Object) -> None:
        """Adds a definition that nobody changes afterwards."""
        metadata = {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        crd = crd | {"metadata": crd["metadata"] | metadata}
        self.store.load(_CRDS, self._served(crd))

    def _served(self, crd: Object) -> Object:
        kinds = custom_kinds(crd)
        self._forget(kinds[0].resource)
        self.kinds[kinds[0].resource] = kinds[0]
        self.served += kinds
        conditions = [
            {"type": each, "status": "True", "reason": "Served", "message": "",
             "lastTransitionTime": now()}
            for each in ("NamesAccepted", "Established")
        ]  # fmt: skip
        names = crd["spec"]["names"]
        return crd | {
            "status": {
                "conditions": conditions,
                "acceptedNames": names,
                "storedVersions": [kinds[0].version],
            }
        }

    def _forget(self, resource: tuple[str, str]) -> None:
        self.kinds.pop(resource, None)
        self.served = [kind for kind in self.served if kind.resource != resource]

    def _decoded(
        self, kind: Kind, namespace: str, body: Object, options: Options
    ) -> tuple[Object, list[str]]:
        said = (body.get("apiVersion", kind.api_version), body.get("kind", kind.name))
        if said != (kind.api_version, kind.name):
            raise bad_request(
                f"the API version in the data ({said[0]}, Kind={said[1]}) does not match the "
                f"expected API version ({kind.api_version}, Kind={kind.name})"
            )
        body = body if kind.custom else without_nulls(body)
        new, unknown = pruned(kind.schema, body)
        warnings = [f'unknown field "{path}"' for path in unknown]
        if unknown and options.field_validation == "Strict":
            raise bad_request(
                f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
                f"strict decoding error: {', '.join(warnings)}"
            )
        if options.field_validation == "Ignore":
            warnings = []
        if kind.deprecation:
            warnings.append(kind.deprecation)
        new = {"apiVersion": kind.api_version, "kind": kind.name} | new
        metadata = new["metadata"] = dict(new.get("metadata") or {})
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request(
                f"the namespace of the provided object does not match the namespace sent on the "
                f"request ({metadata['namespace']!r}, not {namespace!r})"
            )
        if kind.namespaced:
            metadata["namespace"] = namespace
        return with_defaults(kind.schema, new), warnings

    def _replaced(
        self,
        kind: Kind,
        old: Object,
        new: Object,
        options: Options,
        status: bool,
        *,
        applied: bool = False,
    ) -> Object:
        """`applied`: the new managedFields already say who owns what."""
        before, metadata = old["metadata"], new["metadata"]
        if metadata.get("name", before["name"]) != before["name"]:
            raise bad_request("the name of the object does not match the name on the URL")
        version = metadata.get("resourceVersion") or before["resourceVersion"]
        if version != before["resourceVersion"]:
            raise conflict(kind.group, kind.plural, before["name"])
        if metadata.get("uid", before["uid"]) != before["uid"]:
            raise conflict(kind.group, kind.plural, before["name"])
        for field in (
            "name", "uid", "resourceVersion", "creationTimestamp", "generation",
            "deletionTimestamp",
        ):  # fmt: skip
            if field in before:
                metadata[field] = before[field]
        if status:
            new = old | {"status": new.get("status", {})}
        elif kind.has_status:
            new = {name: value for name, value in new.items() if name != "status"}
            new |= {"status": old["status"]} if "status" in old else {}
        new = admission.mutated(self.store, kind, new)
        self._check(kind, new, old)
        if _desired(new) != _desired(old):
            metadata["generation"] = before.get("generation", 1) + 1
        owned = before.get("managedFields", [])
        if not applied and metadata.get("managedFields", owned) == owned:
            metadata |= {"managedFields": owned} if owned else {}
            if new != old:
                new = server_side_apply.updated(kind.schema, old, new, options.manager)
        return old if new == old else self._kept(kind, new, options)

    def _applied(
        self, kind: Kind, namespace: str, name: str, body: Object, options: Options, status: bool
    ) -> tuple[Object, list[str]]:
        checked, warnings = self._decoded(kind, namespace, body, options)
        # What the manager says, without the defaults.
        said, _ = pruned(kind.schema, body if kind.custom else without_nulls(body))
        said["metadata"] = said.get("metadata", {}) | {"name": name}
        live = self.store.get(kind.resource, namespace, name)
        if live is None:
            checked["metadata"]["name"] = name
            new, _ = self.create(kind, namespace, checked, options, applied=said)
            return new, warnings
        new = server_side_apply.apply(kind.schema, live, said, options.manager, force=options.force)
        new, _ = self._decoded(kind, namespace, new, Options(field_validation="Ignore"))
        return self._replaced(kind, live, new, options, status, applied=True), warnings

    def _require_namespace(self, kind: Kind, namespace: str, name: str) -> None:
        if not kind.namespaced:
            return
        found = self.store.get(NAMESPACES, "", namespace)
        if found is None:
            raise not_found("", "namespaces", namespace)
        if "deletionTimestamp" in found["metadata"]:
            raise namespaces.terminating(kind, name, namespace)

    def _check(self, kind: Kind, new: Object, old: Object | None) -> None:
        name = new["metadata"].get("name", "")
        if old is not None and _but_status(new) == _but_status(old):
            causes = validation.status_causes(kind, new)
        else:
            causes = validation.causes(kind, new, old)
        types = [cause for cause in causes if cause.reason == validation.TYPE_INVALID]
        if types and not kind.custom:
            wanted = "; ".join(map(str, types))
            raise bad_request(
                f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: '
                f"json: cannot unmarshal: {wanted}"
            )
        causes = causes or list(rules.causes(kind, new, old))
        if causes:
            raise invalid(kind.group, kind.name, name, causes)

    def _kept(self, kind: Kind, new: Object, options: Options) -> Object:
        if options.dry_run:
            return new
        if kind.resource == _CRDS:
            new = self._served(new)
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            self._remove(kind, new, orphan=False)
        else:
            new = self.store.put(kind.resource, new)
        if kind.group not in _UNREAD_GROUPS:
            self.reconcile()
        return new

    def _remove(self, kind: Kind, found: Object, orphan: bool) -> None:
        metadata = found["metadata"]
        self.store.remove(kind.resource, metadata.get("namespace", ""), metadata["name"])
        if kind.resource == _CRDS:
            self._forget(custom_kinds(found)[0].resource)
        uid = metadata["uid"]

        def goes_with_it(_: Key, other: Object) -> bool:
            owners = other["metadata"].get("ownerReferences", ())
            return not orphan and any(owner["uid"] == uid for owner in owners)

        for resource, namespace, name in self.store.matching(goes_with_it):
            if self.store.has(resource, namespace, name):
                self.delete(self.kinds[resource], namespace, name)


def selected(obj: Object, labels: str, fields: str) -> bool:
    has = obj["metadata"].get("labels", {})
    return labels_match(labels, has) and fields_match(fields, obj)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _but_status(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name != "status"}


def _desired(obj: Object) -> Object:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}
