"""Manifests tried on a cluster of their own: what is refused, and what then does not run."""

from pathlib import Path

from serving.deploy.lint.references import SECRETS
from tests.cluster.api import Options
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ApiError
from tests.cluster.schemas import Object


def cluster_with_room(folder: Path = Path()) -> Cluster:
    """A cluster that holds two of the largest services, and has a default storage class."""
    cluster = Cluster(folder)
    cluster.add_storage_class()
    cluster.add_node("cpu-0", cpus=256, memory="2Ti")
    cluster.add_node("gpu-0", cpus=768, memory="8Ti", gpus=32, product="NVIDIA-H100-80GB-HBM3")
    return cluster


def add_secrets(cluster: Cluster, namespace: str) -> None:
    """Those that a person makes, with the keys that the manifests' README tells of."""
    for name, key in SECRETS.items():
        cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "stringData": {key: "of a test"},
            }
        )


def problems(objects: list[Object]) -> list[str]:
    """What the server refuses, else what controllers complain of, else what does not get ready."""
    cluster = cluster_with_room()
    # They wait until all is there: what comes of it is the same, and sooner.
    controllers, cluster.api.controllers = cluster.api.controllers, []
    if refused := refusals(cluster, objects):
        return refused
    cluster.api.controllers = controllers
    cluster.reconcile()
    return complaints(cluster)


def refusals(cluster: Cluster, objects: list[Object]) -> list[str]:
    """Creates the objects, and Secrets in their namespaces: what is refused or warned of."""
    refused = []
    for each in objects:
        kind = cluster.api.kind_of(each["apiVersion"], each["kind"])
        name = f"{each['kind']} {each['metadata']['name']}"
        if kind is None:
            refused.append(f"{name}: no such kind in {each['apiVersion']}")
            continue
        namespace = each["metadata"].get("namespace", "default") if kind.namespaced else ""
        options = Options(field_validation="Strict")
        try:
            _, warnings = cluster.api.create(kind, namespace, each, options)
            refused += [f"{name}: {warning}" for warning in warnings]
            if kind.name == "Namespace":
                add_secrets(cluster, each["metadata"]["name"])
        except ApiError as error:
            refused.append(f"{name}: {error.message}")
    return refused


def complaints(cluster: Cluster) -> list[str]:
    store = cluster.api.store
    warned = [
        f"{event['involvedObject']['kind']} {event['involvedObject']['name']}: {event['message']}"
        for event in store.objects(("", "events"))
        if event["type"] == "Warning"
    ]
    unready = [
        f"RayService {service['metadata']['name']}: is not ready"
        for service in store.objects(("ray.io", "rayservices"))
        if not any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in service["status"]["conditions"]
        )
    ]
    stuck = [
        f"Job {job['metadata']['name']}: does not end"
        for job in store.objects(("batch", "jobs"))
        if not job["status"].get("succeeded")
    ]
    blocked = [
        f"PodDisruptionBudget {budget['metadata']['name']}: allows no disruption"
        for budget in store.objects(("policy", "poddisruptionbudgets"))
        if budget["status"]["disruptionsAllowed"] < 1
    ]
    return warned + unready + stuck + blocked
