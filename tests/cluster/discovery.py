"""What clients ask a server about itself: its groups, its resources, their schemas, its version."""

from typing import Any

from tests.cluster.api import Api
from tests.cluster.schemas import KUBERNETES_VERSION, Kind, Object

_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
# kubectl takes the older document only in protobuf, and asks for it where the newer has no such
# kind. This one says nothing but its version.
OPENAPI_V2_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_OPENAPI_V2 = b"\x0a\x032.0"


def document(api: Api, path: str) -> Any:
    """The answer to a GET of that path; None where it is no path of discovery."""
    match path.strip("/").split("/"):
        case ["healthz" | "livez" | "readyz"]:
            return "ok"
        case ["version"]:
            major, minor = api.kubernetes_version.split(".")
            return {
                "major": major,
                "minor": minor,
                "gitVersion": f"v{api.kubernetes_version}.0",
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "none",
                "compiler": "none",
                "platform": "linux/amd64",
            }
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            groups = [_group(api, group) for group in _groups(api) if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if group in _groups(api):
            return {"apiVersion": "v1"} | _group(api, group)
        case ["api", version]:
            return _resources(api, "", version)
        case ["apis", group, version]:
            return _resources(api, group, version)
        case ["openapi", "v2"]:
            return _OPENAPI_V2
        case ["openapi", "v3"]:
            roots = {_root(kind) for kind in api.served}
            return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}"} for root in roots}}
        case ["openapi", "v3", *rest]:
            kinds = [kind for kind in api.served if _root(kind) == "/".join(rest)]
            return _openapi(kinds) if kinds else None
    return None


def _groups(api: Api) -> dict[str, set[str]]:
    """The versions of each group."""
    found: dict[str, set[str]] = {}
    for kind in api.served:
        found.setdefault(kind.group, set()).add(kind.version)
    return found


def _root(kind: Kind) -> str:
    return f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"


def _group(api: Api, group: str) -> Object:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for version in sorted(_groups(api)[group], key=_maturity, reverse=True)
    ]
    return {
        "kind": "APIGroup", "name": group, "versions": versions, "preferredVersion": versions[0],
    }  # fmt: skip


def _maturity(version: str) -> tuple[bool, bool, str]:
    """v2 before v1, v1 before v1beta1, v1beta1 before v1alpha1."""
    return "beta" not in version and "alpha" not in version, "beta" in version, version


def _resources(api: Api, group: str, version: str) -> Object | None:
    found: list[Object] = []
    for kind in api.served:
        if (kind.group, kind.version) != (group, version):
            continue
        entry = {
            "name": kind.plural,
            "singularName": kind.name.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": _VERBS,
            "shortNames": list(kind.short_names),
            "categories": list(kind.categories),
        }
        found.append(entry)
        if kind.name == "Pod":
            # An entry of another group: an eviction is posted to a pod.
            found.append({
                "name": "pods/eviction", "singularName": "", "namespaced": True,
                "group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"],
            })  # fmt: skip
        extra = ["status"] * kind.has_status + ["log"] * (kind.name == "Pod")
        for subresource in extra:
            found.append(
                entry
                | {
                    "name": f"{kind.plural}/{subresource}",
                    "verbs": ["get", "patch", "update"],
                    "shortNames": [],
                    "categories": [],
                }
            )
    if not found:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": found,
    }


def _openapi(kinds: list[Kind]) -> Object:
    """What kubectl needs to hear: that the server validates fields, and can try a change.

    How the lists of built-in kinds merge it then knows by itself.
    """
    paths: Object = {}
    for kind in kinds:
        where = "/namespaces/{namespace}" if kind.namespaced else ""
        paths[f"/{_root(kind)}{where}/{kind.plural}/{{name}}"] = {
            "patch": {
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": {
                    "group": kind.group,
                    "version": kind.version,
                    "kind": kind.name,
                },
                "parameters": [
                    {"name": name, "in": "query", "schema": {"type": "string"}}
                    for name in ("dryRun", "fieldManager", "fieldValidation")
                ],
                "responses": {"200": {"description": "OK"}},
            }
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": f"v{KUBERNETES_VERSION}.0"},
        "paths": paths,
        "components": {"schemas": {}},
    }
