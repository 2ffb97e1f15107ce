"""Has Serve try a failed application again."""

from serving.deploy.effect import Effect, effects
from serving.deploy.kube import Kube
from serving.deploy.objects import Object
from serving.deploy.stages import active_cluster, pending_cluster


def try_again(kube: Kube, before: Object | None, after: Object | None) -> str:
    """Replaces the Ray cluster of a failed application that an apply has not changed, if no client
    reaches it, and returns what was done; "" if nothing. `before` and `after` are the RayService.

    Serve tries DEPLOY_FAILED again only with another config, so a mended image does not help.
    Raises DeployError.
    """
    if before is None or after is None:
        return ""
    if {Effect.scale, Effect.in_place, Effect.new_cluster} & set(effects(before, after)):
        return ""
    status, namespace = after.get("status") or {}, after["metadata"]["namespace"]
    pending, active = pending_cluster(after), active_cluster(after)
    name, which = (pending, "pending") if pending else (active, "active")
    applications = (status.get(f"{which}ServiceStatus") or {}).get("applicationStatuses") or {}
    failed = [key for key, each in applications.items() if each.get("status") == "DEPLOY_FAILED"]
    if not failed:
        return ""
    what = f"application {', '.join(failed)} has failed, and Serve does not try it again by itself"
    if not pending:
        return (
            f"{what}: change its config, or, with an interruption, "
            f"kubectl -n {namespace} delete raycluster {name}"
        )
    cluster = kube.get("ray.io/v1", "RayCluster", name, namespace)
    if cluster is not None:
        kube.delete(cluster)
    return f"{what}: RayCluster {namespace}/{name} is replaced, which no client reaches yet"
