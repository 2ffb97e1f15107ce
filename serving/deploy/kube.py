"""Reads and writes objects of any kind, by apiVersion and kind. Failures are DeployErrors.

`kubernetes.dynamic.DynamicClient` is not used: its discovery takes an API group that answers 503
for one without kinds, keeps a cache by host name in the shared temporary directory, where other
users and earlier clusters write, and asks for /version and /apis again for each unknown kind.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from serving.deploy.api_server import ApiServer
from serving.deploy.errors import NotFound, UnknownKind
from serving.deploy.objects import Object

MANAGER = "kubectl"
"""The owner of the applied fields, the same as of `kubectl apply --server-side`, so that either can
continue where the other stopped."""


class Kube:
    """A cluster, as the user of the kubeconfig sees it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self._resources: dict[str, list[Object]] = {}

    def version(self) -> str:
        """The API server's version, such as "v1.32.4"."""
        found = self.server.request("GET", "/version", "ask the API server for its version")
        return str(found["gitVersion"])

    def has_kind(self, api_version: str, kind: str) -> bool:
        try:
            self._resource(api_version, kind)
        except UnknownKind:
            return False
        return True

    def resource(self, api_version: str, kind: str) -> str:
        """The plural name of a kind, which permissions use. Raises UnknownKind."""
        return str(self._resource(api_version, kind)["name"])

    def namespaced(self, api_version: str, kind: str) -> bool:
        return bool(self._resource(api_version, kind)["namespaced"])

    def get(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object; None if it does not exist."""
        path = self._path(api_version, kind, namespace, name)
        with contextlib.suppress(NotFound):
            return self.server.request("GET", path, f"get {kind} {name}")
        return None

    def live(self, obj: Object) -> Object | None:
        """The object as the cluster has it; None if it does not exist, or its kind does not."""
        with contextlib.suppress(NotFound):
            return self._to(obj, "GET", "get")
        return None

    def find(
        self, api_version: str, kind: str, namespace: str = "", labels: str = ""
    ) -> list[Object]:
        """All objects of a kind, in all namespaces by default; none if the kind is unknown."""
        try:
            path = self._path(api_version, kind, namespace)
        except UnknownKind:
            return []
        query = {"labelSelector": labels} if labels else {}
        what = f"list {self.resource(api_version, kind)}{_in(namespace)}"
        found = self.server.request("GET", path, what, query=query)
        items: list[Object] = found["items"]
        return [{"apiVersion": api_version, "kind": kind} | item for item in items]

    def apply(self, manifest: Object, *, dry_run: bool = False) -> Object:
        """Applies as `kubectl apply --server-side --force-conflicts`; returns the new object."""
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        kind = "application/apply-patch+yaml"
        return self._to(manifest, "PATCH", "apply", query=query, body=manifest, content_type=kind)

    def patch(self, obj: Object, operations: list[Object]) -> Object:
        """Applies a JSON patch. Raises Conflict if a `test` in it fails."""
        kind = "application/json-patch+json"
        return self._to(obj, "PATCH", "change", body=operations, content_type=kind)

    def merge(self, obj: Object, patch: Object) -> Object:
        """Applies a merge patch to an object that exists."""
        kind = "application/merge-patch+json"
        return self._to(obj, "PATCH", "change", body=patch, content_type=kind)

    def create(self, api_version: str, kind: str, body: Object) -> Object:
        what, path = f"create a {kind}", self._path(api_version, kind)
        body = {"apiVersion": api_version, "kind": kind} | body
        return self.server.request("POST", path, what, body=body)

    def delete(self, obj: Object, grace_s: int | None = None) -> None:
        """Deletes an object, and what it owns afterwards; does nothing if it, or its kind, is gone.
        A pod has `grace_s` seconds to end; None: those of its specification.

        In the foreground, what KubeRay creates to clean up would be deleted too.
        """
        options: Object = {"propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        with contextlib.suppress(NotFound):
            self._to(obj, "DELETE", "delete", body=options)

    def evict(self, pod: Object) -> None:
        """Evicts a pod; does nothing if it is gone. Raises Conflict while a PodDisruptionBudget
        forbids it.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {key: pod["metadata"][key] for key in ("name", "namespace")},
        }
        with contextlib.suppress(NotFound):
            self._to(pod, "POST", "evict", "/eviction", body=body)

    def may(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        """Whether this user has a permission; `resource` includes a subresource: pods/log."""
        plural, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
        if subresource:
            attributes["subresource"] = subresource
        kind = "SelfSubjectAccessReview"
        review = {"spec": {"resourceAttributes": attributes}}
        answer = self.create("authorization.k8s.io/v1", kind, review)
        return bool(answer["status"].get("allowed"))

    def log(
        self,
        pod: Object,
        container: str,
        tail_lines: int | None = None,
        *,
        since_s: int | None = None,
        previous: bool = False,
        follow: bool = False,
    ) -> Iterator[str]:
        """Lines of a container's log; with `follow`, new ones as they arrive."""
        query = {"container": container, "previous": str(previous).lower()}
        if tail_lines is not None:
            query["tailLines"] = str(tail_lines)
        if since_s is not None:
            query["sinceSeconds"] = str(since_s)
        if follow:
            query["follow"] = "true"
        path = f"{self._path_of(pod)}/log"
        what = f"read the log of {pod['metadata']['name']}/{container}"
        return self.server.lines(path, query, endless=follow, what=what)

    def _to(self, obj: Object, method: str, verb: str, below: str = "", **sent: Any) -> Object:
        """The answer to a request that does `verb` to an object, or to what is below it."""
        path = self._path_of(obj) + below
        return self.server.request(method, path, f"{verb} {named(obj)}", **sent)

    def _path_of(self, obj: Object) -> str:
        metadata = obj["metadata"]
        return self._path(
            obj["apiVersion"], obj["kind"], metadata.get("namespace", ""), metadata["name"]
        )

    def _path(self, api_version: str, kind: str, namespace: str = "", name: str = "") -> str:
        resource = self._resource(api_version, kind)
        parts = [_root(api_version)]
        if namespace and resource["namespaced"]:
            parts += ["namespaces", quote(namespace)]
        parts.append(resource["name"])
        return "/".join([*parts, quote(name)] if name else parts)

    def _resource(self, api_version: str, kind: str) -> Object:
        if api_version not in self._resources:
            with contextlib.suppress(NotFound):
                what = f"ask for the kinds of {api_version}"
                found = self.server.request("GET", _root(api_version), what)
                self._resources[api_version] = found["resources"]
        for resource in self._resources.get(api_version, ()):
            if resource["kind"] == kind and "/" not in resource["name"]:
                return resource
        raise UnknownKind(f"the cluster has no kind {kind} of {api_version}: is its CRD installed?")


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _in(namespace: str) -> str:
    return f" in {namespace}" if namespace else ""


def named(obj: Object) -> str:
    """An object's kind and name, as "RayService mistral-serve/mistral"."""
    metadata = obj["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{obj['kind']} {place}{metadata['name']}"
