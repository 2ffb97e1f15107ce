"""What KubeRay does with a RayService, as far as clients see it: clusters, pods, services, status.

As in KubeRay 1.7: a changed `rayClusterConfig` brings a second cluster up and switches to it once
it is ready; a changed `serveConfigV2` is applied in place. The real operator's checks of a spec
are not here.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from tests.cluster.api import Api
from tests.cluster.kuberay_pods import EXCLUDE_HEAD, cleanup_job, pods_of
from tests.cluster.schemas import Object
from tests.cluster.store import copied
from tests.cluster.workloads import create_owned, is_ready, owned, report

_SERVICES = ("ray.io", "rayservices")
_CLUSTERS = ("ray.io", "rayclusters")
_HASH = "ray.io/hash-without-replicas-and-workers-to-delete"
_SERVICE_FINALIZER = "ray.io/rayservice-finalizer"
REDIS_FINALIZER = "ray.io/gcs-ft-redis-cleanup-finalizer"

Judge = Callable[[Object, Object], tuple[str, str]]


def running(application: Object, cluster: Object) -> tuple[str, str]:
    return "RUNNING", ""


@dataclass
class KubeRay:
    """A controller of an Api.

    `judge` says the state of each Serve application of a config on a RayCluster whose pods are
    ready, and a message: RUNNING (by default), DEPLOYING, DEPLOY_FAILED or UNHEALTHY. One that has
    failed stays so, as Serve does not try again until its config changes.
    """

    api: Api
    judge: Judge = running
    failed: dict[tuple[str, str], str] = field(default_factory=dict)
    """Messages of failed applications, by their cluster's uid and their config."""

    def __call__(self) -> None:
        for service in self.api.store.objects(_SERVICES):
            if "deletionTimestamp" in service["metadata"]:
                self._end_service(service)
            elif self._has_finalizer(service, _SERVICE_FINALIZER):
                self._service(service)
        for cluster in self.api.store.objects(_CLUSTERS):
            if "deletionTimestamp" in cluster["metadata"]:
                self._end_cluster(cluster)
            elif "gcsFaultToleranceOptions" not in cluster["spec"] or self._has_finalizer(
                cluster, REDIS_FINALIZER
            ):
                self._cluster(cluster)

    def _has_finalizer(self, obj: Object, finalizer: str) -> bool:
        """Adds it where it is missing; the object is looked at again then."""
        finalizers = obj["metadata"].setdefault("finalizers", [])
        if finalizer in finalizers:
            return True
        finalizers.append(finalizer)
        self._update(obj)
        return False

    def _update(self, obj: Object) -> None:
        metadata = obj["metadata"]
        kind = self.api.kind_of(obj["apiVersion"], obj["kind"])
        assert kind is not None
        self.api.update(kind, metadata["namespace"], metadata["name"], obj)

    def _end_service(self, service: Object) -> None:
        clusters = owned(self.api, service, _CLUSTERS)
        for cluster in clusters:
            self._delete(cluster)
        if not clusters:
            self._release(service, _SERVICE_FINALIZER)

    def _end_cluster(self, cluster: Object) -> None:
        """Its pods go first, then its state in Redis, by a Job."""
        if REDIS_FINALIZER not in cluster["metadata"].get("finalizers", ()):
            return
        for pod in owned(self.api, cluster):
            self.api.delete(
                self.api.kinds["", "pods"], pod["metadata"]["namespace"], pod["metadata"]["name"]
            )
        create_owned(self.api, cluster, cleanup_job(cluster), "FailedToCreateRedisCleanupJob")
        for job in owned(self.api, cluster, ("batch", "jobs")):
            conditions = job.get("status", {}).get("conditions", ())
            if any(each["type"] in ("Complete", "Failed") for each in conditions):
                self._release(cluster, REDIS_FINALIZER)

    def _release(self, obj: Object, finalizer: str) -> None:
        if finalizer in obj["metadata"].get("finalizers", ()):
            obj["metadata"]["finalizers"].remove(finalizer)
            self._update(obj)

    def _service(self, service: Object) -> None:
        wanted = _cluster_hash(service["spec"]["rayClusterConfig"])
        old = service.get("status", {})
        clusters = {
            found["metadata"]["name"]: found for found in owned(self.api, service, _CLUSTERS)
        }
        active = clusters.get(old.get("activeServiceStatus", {}).get("rayClusterName", ""))
        pending = clusters.get(old.get("pendingServiceStatus", {}).get("rayClusterName", ""))
        upgrades = service["spec"].get("upgradeStrategy", {}).get("type") != "None"
        if active is None or (_made_of(active) != wanted and upgrades):
            if pending is None or _made_of(pending) != wanted:
                if pending is not None:
                    self._delete(pending)
                pending = self._new_cluster(service, wanted)
        elif pending is not None:
            self._delete(pending)
            pending = None
        if pending is not None and self._serves(service, pending):
            if active is not None:
                self._delete(active)
            active, pending = pending, None
        for cluster in (active, pending):
            if cluster is not None:
                self._resize(service, cluster)
        status: Object = {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": self._conditions(service, active, pending),
        }
        if active is not None:
            status["activeServiceStatus"] = self._cluster_status(service, active)
            status["serviceStatus"] = "Running"
            status["numServeEndpoints"] = self._endpoints(service, active)
            self._front(service, active)
        if pending is not None:
            status["pendingServiceStatus"] = self._cluster_status(service, pending)
        report(self.api, service, status)

    def _conditions(
        self, service: Object, active: Object | None, pending: Object | None
    ) -> list[Object]:
        ready = (
            active is not None
            and self._serves(service, active)
            and self._endpoints(service, active) > 0
        )
        upgrading = active is not None and pending is not None
        return [
            {
                "type": "Ready",
                "status": str(ready),
                "reason": "NonZeroServeEndpoints" if ready else "Initializing",
                "message": "Number of serve endpoints is greater than 0" if ready else "",
                "observedGeneration": service["metadata"]["generation"],
            },
            {
                "type": "UpgradeInProgress",
                "status": str(upgrading),
                "reason": "BothActivePendingClustersExist" if upgrading else "NoPendingCluster",
                "observedGeneration": service["metadata"]["generation"],
            },
        ]

    def _new_cluster(self, service: Object, wanted: str) -> Object:
        spec = copied(service["spec"]["rayClusterConfig"])
        name = f"{service['metadata']['name']}-{wanted[:5]}"
        labels = service["metadata"].get("labels", {})
        create_owned(
            self.api,
            service,
            {
                "apiVersion": "ray.io/v1",
                "kind": "RayCluster",
                "metadata": {
                    "name": name,
                    "labels": labels
                    | {
                        "ray.io/originated-from-cr-name": service["metadata"]["name"],
                        "ray.io/originated-from-crd": "RayService",
                    },
                    "annotations": {
                        _HASH: wanted,
                        EXCLUDE_HEAD: str(
                            service["spec"].get("excludeHeadPodFromServeSvc", False)
                        ).lower(),
                    },
                },
                "spec": spec,
            },
            "FailedToCreateRayCluster",
        )
        made = self.api.store.get(_CLUSTERS, service["metadata"]["namespace"], name)
        assert made is not None
        return made

    def _resize(self, service: Object, cluster: Object) -> None:
        """Changes of replicas reach the cluster that is there, unless its autoscaler sets them."""
        wanted = service["spec"]["rayClusterConfig"]
        if wanted.get("enableInTreeAutoscaling"):
            return
        if _made_of(cluster) == _cluster_hash(wanted) and cluster["spec"] != wanted:
            metadata = cluster["metadata"]
            body = cluster | {"spec": copied(wanted)}
            self.api.update(
                self.api.kinds[_CLUSTERS], metadata["namespace"], metadata["name"], body
            )

    def _applications(self, service: Object, cluster: Object) -> Object:
        config = _parsed(service["spec"].get("serveConfigV2", ""))
        statuses = {}
        for application in config.get("applications", ()):
            key = (cluster["metadata"]["uid"], json.dumps(application, sort_keys=True))
            status, message = self.judge(application, cluster)
            if status == "DEPLOY_FAILED":
                self.failed[key] = message
            if key in self.failed:
                status, message = "DEPLOY_FAILED", self.failed[key]
            deployments = {
                each["name"]: {"status": "HEALTHY" if status == "RUNNING" else "UPDATING"}
                for each in application.get("deployments", ())
            }
            statuses[application["name"]] = {
                "status": status,
                "message": message,
                "serveDeploymentStatuses": deployments,
            }
        return statuses

    def _serves(self, service: Object, cluster: Object) -> bool:
        state = cluster.get("status", {}).get("state")
        applications = self._applications(service, cluster).values()
        return state == "ready" and all(each["status"] == "RUNNING" for each in applications)

    def _cluster_status(self, service: Object, cluster: Object) -> Object:
        status: Object = {
            "rayClusterName": cluster["metadata"]["name"],
            "rayClusterStatus": cluster.get("status", {}),
        }
        if cluster.get("status", {}).get("state") == "ready":
            status["applicationStatuses"] = self._applications(service, cluster)
        return status

    def _front(self, service: Object, active: Object) -> None:
        """The services that clients reach the active cluster by."""
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        of_head = _head_ports(active["spec"])
        head = {"ray.io/cluster": active["metadata"]["name"], "ray.io/node-type": "head"}
        serving = {"ray.io/cluster": active["metadata"]["name"], "ray.io/serve": "true"}
        for suffix, ports, selector in (
            ("head-svc", of_head, head),
            ("serve-svc", _serve_ports(service), serving),
        ):
            if not ports:
                continue
            made: Object = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": f"{name}-{suffix}"},
                "spec": {"selector": selector, "ports": ports},
            }
            create_owned(self.api, service, made, "FailedToCreateService")
            found = self.api.store.get(("", "services"), namespace, f"{name}-{suffix}")
            if found and found["spec"]["selector"] != selector:
                found["spec"]["selector"] = selector
                kind = self.api.kinds["", "services"]
                self.api.update(kind, namespace, f"{name}-{suffix}", found)

    def _endpoints(self, service: Object, cluster: Object) -> int:
        """How many pods answer behind the Service for clients."""
        targets = [
            port["targetPort"] if "targetPort" in port else port["port"]
            for port in _serve_ports(service)
        ]
        return sum(
            is_ready(pod)
            and pod["metadata"]["labels"]["ray.io/serve"] == "true"
            and any(_answers(pod, target) for target in targets)
            for pod in owned(self.api, cluster)
        )

    def _delete(self, cluster: Object) -> None:
        metadata = cluster["metadata"]
        self.api.delete(self.api.kinds[_CLUSTERS], metadata["namespace"], metadata["name"])

    def _cluster(self, cluster: Object) -> None:
        spec, name = cluster["spec"], cluster["metadata"]["name"]
        head_spec = spec["headGroupSpec"]["template"]["spec"]
        if spec.get("enableInTreeAutoscaling") and not head_spec.get("serviceAccountName"):
            account: Object = {"apiVersion": "v1", "kind": "ServiceAccount",
                               "metadata": {"name": name}}  # fmt: skip
            create_owned(self.api, cluster, account, "FailedToCreateServiceAccount")
        wanted = {pod["metadata"]["name"]: pod for pod in pods_of(cluster)}
        for pod in owned(self.api, cluster):
            if pod["metadata"]["name"] not in wanted:
                kind = self.api.kinds["", "pods"]
                self.api.delete(kind, pod["metadata"]["namespace"], pod["metadata"]["name"])
        for pod in wanted.values():
            head = pod["metadata"]["labels"]["ray.io/node-type"] == "head"
            failure = "FailedToCreateHeadPod" if head else "FailedToCreateWorkerPod"
            create_owned(self.api, cluster, pod, failure)
        pods = owned(self.api, cluster)
        workers = [pod for pod in pods if pod["metadata"]["labels"]["ray.io/node-type"] == "worker"]
        ready = len(pods) == len(wanted) and all(map(is_ready, pods))
        status: Object = {
            "observedGeneration": cluster["metadata"]["generation"],
            "desiredWorkerReplicas": len(wanted) - 1,
            "availableWorkerReplicas": sum(map(is_ready, workers)),
            "readyWorkerReplicas": sum(map(is_ready, workers)),
            "conditions": [
                {"type": "HeadPodReady",
                 "status": str(any(is_ready(pod) for pod in pods if pod not in workers))},
                {"type": "RayClusterProvisioned", "status": str(ready)},
            ],
        }  # fmt: skip
        if ready or cluster.get("status", {}).get("state") == "ready":
            status["state"] = "ready"  # and stays so
        report(self.api, cluster, status)


@functools.cache
def _parsed(serve_config: str) -> Object:
    config: Object = yaml.load(serve_config, yaml.CSafeLoader) or {}
    return config


def _head_ports(spec: Object) -> list[Object]:
    head = spec["headGroupSpec"]["template"]["spec"]["containers"][0]
    return [
        {"name": port["name"], "port": port["containerPort"]}
        for port in head.get("ports", ())
        if "name" in port
    ]


def _serve_ports(service: Object) -> list[Object]:
    """Those that the RayService states, or those of the head that are named `serve`."""
    own = service["spec"].get("serveService", {}).get("spec", {})
    of_head = _head_ports(service["spec"]["rayClusterConfig"])
    named: list[Object] = [port for port in of_head if port["name"].startswith("serve")]
    return own.get("ports", named)  # type: ignore[no-any-return]


def _answers(pod: Object, target: str | int) -> bool:
    """By a number any pod may answer, by a name one that has a port of that name."""
    ports = [port for each in pod["spec"]["containers"] for port in each.get("ports", ())]
    return isinstance(target, int) or any(port.get("name") == target for port in ports)


def _cluster_hash(spec: Object) -> str:
    """Over all that a change of brings a new cluster for."""
    same = copied(spec)
    for group in same.get("workerGroupSpecs", ()):
        for name in ("replicas", "minReplicas", "maxReplicas", "scaleStrategy"):
            group.pop(name, None)
    return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def _made_of(cluster: Object) -> str:
    return str(cluster["metadata"]["annotations"][_HASH])
