"""The permissions that this user needs."""

from collections.abc import Iterator

from serving.deploy.facts import Facts, Right
from serving.deploy.finding import Finding, missing, ok
from serving.deploy.manifests import Manifests


def needed_rights(
    manifests: Manifests, resources: dict[tuple[str, str], tuple[str, bool]]
) -> list[Right]:
    """The rights for `apply`, `status`, `rollout` and `logs`. `resources` gives the plural of each
    apiVersion and kind that the cluster knows, and whether it is namespaced.
    """
    found = []
    for obj in manifests.objects:
        known = resources.get((obj["apiVersion"], obj["kind"]))
        if known is None:
            continue
        plural, namespaced = known
        group = obj["apiVersion"].rpartition("/")[0]
        place = obj["metadata"].get("namespace", "default") if namespaced else ""
        found += [Right(verb, group, plural, place) for verb in ("get", "create", "patch")]
    here = manifests.namespace
    found += [
        *(Right("list", "ray.io", plural, here) for plural in ("rayservices", "rayclusters")),
        *(Right("list", "", plural, here) for plural in ("pods", "events")),
        Right("list", "", "persistentvolumeclaims", here),
        Right("list", "batch", "jobs", here),
        Right("list", "apps", "statefulsets", here),
        Right("get", "", "pods/log", here),
        Right("create", "", "pods/portforward", here),
        Right("delete", "batch", "jobs", here),
    ]
    return list(dict.fromkeys(found))


def rights(facts: Facts) -> Iterator[Finding]:
    """A finding for each namespace in which permissions are lacking."""
    if not facts.denied:
        yield ok("permissions", "all that the deploy commands need")
    by_place: dict[str, dict[str, set[str]]] = {}
    for right in facts.denied:
        by_place.setdefault(right.namespace, {}).setdefault(right.on, set()).add(right.verb)
    for namespace, resources in by_place.items():
        where = f"in {namespace}" if namespace else "for the whole cluster"
        what = "; ".join(f"{', '.join(sorted(v))} {r}" for r, v in sorted(resources.items()))
        yield missing("permissions", f"missing {where}: {what}", *_grant(namespace, resources))


def _grant(namespace: str, resources: dict[str, set[str]]) -> Iterator[str]:
    verbs = ",".join(sorted(set().union(*resources.values())))
    what = ",".join(sorted(resources))
    role, place = ("role", f" -n {namespace}") if namespace else ("clusterrole", "")
    name = "mistral-serve-deployer"
    yield f"kubectl create {role} {name}{place} --verb={verbs} --resource={what}"
    yield f"kubectl create {role}binding {name}{place} --{role}={name} --user=<you>"
