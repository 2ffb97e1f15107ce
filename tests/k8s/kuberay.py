"""What KubeRay 1.7.0's operator refuses, or does unasked, that no schema says: after
ray-operator/controllers/ray/utils/validation.go."""

import re
from collections.abc import Iterator

from tests.k8s.manifests import Object, of_kind

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MAX_NAME_LENGTH = 47
_UPGRADE_TYPES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
_DURATION = re.compile(r"[1-9]\d*|(\d+(\.\d+)?(h|m|s|ms))+")
_CLEANUP_S = 300
"""What KubeRay's Job that cleans Redis may take."""
_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_MIN_TOKEN_AUTH = (2, 52)
_GATED = {
    "historyServerOptions": "RayClusterHistoryServer",
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
}
"""Fields of a cluster behind feature gates that are off."""


def problems(objects: list[Object]) -> list[str]:
    return [problem for o in of_kind(objects, "RayService") for problem in _rayservice(o)]


def _rayservice(rayservice: Object) -> Iterator[str]:
    metadata, spec = rayservice["metadata"], rayservice["spec"]
    if len(metadata["name"]) > _MAX_NAME_LENGTH or not _DNS_1035.fullmatch(metadata["name"]):
        yield f"metadata.name: a DNS-1035 label of at most {_MAX_NAME_LENGTH} characters"
    annotations = metadata.get("annotations", {})
    timeout = str(annotations.get("ray.io/initializing-timeout", "1s"))
    if not _DURATION.fullmatch(timeout):
        yield "ray.io/initializing-timeout: a duration above 0"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "rayClusterDeletionDelaySeconds: at least 0"
    for field in ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"):
        if field in spec:
            yield f"{field}: has no effect any more"
    cluster = spec["rayClusterConfig"]
    yield from _upgrade(spec, cluster)
    yield from _groups(cluster)
    yield from _fault_tolerance(cluster, annotations)
    yield from _autoscaler(cluster)
    yield from _auth(cluster)
    yield from (
        f"{field}: needs the gate {_GATED[field]}" for field in _GATED.keys() & cluster.keys()
    )
    head = cluster["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield "headGroupSpec.headService.metadata.name: not in a RayService"
    if head.get("enableIngress"):
        yield "headGroupSpec.enableIngress: it would show Ray's dashboard to the world"
    if "startupProbe" in head["template"]["spec"]["containers"][0]:
        yield "headGroupSpec: its startupProbe would fail in the Job that cleans Redis"
    head_ports = {p["name"] for p in head["template"]["spec"]["containers"][0]["ports"]}
    incremental = spec.get("upgradeStrategy", {}).get("type") == _UPGRADE_TYPES[1]
    if "serve" not in head_ports and (incremental or "serveService" not in spec):
        yield "headGroupSpec: without a port named serve KubeRay makes no Service for clients"
    if "serve" not in head_ports and not spec.get("excludeHeadPodFromServeSvc"):
        yield "excludeHeadPodFromServeSvc: KubeRay would ask the head for the health of a proxy"


def _upgrade(spec: Object, cluster: Object) -> Iterator[str]:
    strategy = spec.get("upgradeStrategy", {})
    type_ = strategy.get("type", "NewCluster")
    if type_ not in _UPGRADE_TYPES:
        yield f"upgradeStrategy.type: one of {', '.join(_UPGRADE_TYPES)}"
    if "upgradeStrategy" in cluster:
        yield "rayClusterConfig.upgradeStrategy: not of a cluster that a RayService makes"
    if type_ != "NewClusterWithIncrementalUpgrade":
        return
    if not cluster.get("enableInTreeAutoscaling"):
        yield "upgradeStrategy: an incremental upgrade needs the autoscaler"
    options = strategy.get("clusterUpgradeOptions")
    if options is None:
        yield "upgradeStrategy.clusterUpgradeOptions: missing"
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not 0 <= surge <= 100:
        yield "maxSurgePercent: between 0 and 100"
    if not 0 <= step <= min(surge, 100):
        yield "stepSizePercent: between 0 and maxSurgePercent"
    if options.get("intervalSeconds", 0) <= 0:
        yield "intervalSeconds: above 0"
    if not options.get("gatewayClassName"):
        yield "gatewayClassName: missing"


def _groups(cluster: Object) -> Iterator[str]:
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        where = group.get("groupName", "head")
        params = group["rayStartParams"]
        yield from (
            f"{where}: rayStartParams.{key} is not a string"
            for key, value in params.items()
            if not isinstance(value, str)
        )
        if group.get("resources") and any(params.get(key) for key in _RESOURCES):
            yield f"{where}: resources in rayStartParams and beside it"
        if "labels" in params:
            yield f"{where}: rayStartParams.labels stand as labels beside it"
    autoscaled = cluster.get("enableInTreeAutoscaling")
    for group in cluster["workerGroupSpecs"]:
        where = group["groupName"]
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not autoscaled and (least is None or most is None):
            yield f"{where}: minReplicas and maxReplicas are needed without the autoscaler"
        if (least or 0) < 0 or (most or 0) < 0:
            yield f"{where}: minReplicas and maxReplicas are at least 0"
        if least is not None and most is not None and least > most:
            yield f"{where}: minReplicas is above maxReplicas"
        if autoscaled and group.get("suspend"):
            yield f"{where}: cannot be suspended with the autoscaler"
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    if len(names) != len(set(names)):
        yield "workerGroupSpecs: two groups have one name"


def _environment(group: Object) -> dict[str, object]:
    container = group["template"]["spec"]["containers"][0]
    return {v["name"]: v.get("value") for v in container.get("env", ())}


def _fault_tolerance(cluster: Object, annotations: dict[str, str]) -> Iterator[str]:
    options, head = cluster.get("gcsFaultToleranceOptions"), cluster["headGroupSpec"]
    environment, params = _environment(head), head["rayStartParams"]
    if options is None:
        if "RAY_REDIS_ADDRESS" in environment:
            yield "RAY_REDIS_ADDRESS: needs gcsFaultToleranceOptions"
        return
    for key in ("ray.io/ft-enabled", "ray.io/external-storage-namespace"):
        if annotations.get(key):
            yield f"{key}: not beside gcsFaultToleranceOptions"
    for key in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"):
        if key in environment:
            yield f"{key}: stands in gcsFaultToleranceOptions"
    for key in ("redis-password", "redis-username"):
        if params.get(key):
            yield f"rayStartParams.{key}: stands in gcsFaultToleranceOptions"
    if options.get("backend", "redis") != "redis":
        yield "gcsFaultToleranceOptions.backend: needs the gate GCSFaultToleranceEmbeddedStorage"
    timeout_s = int(annotations.get("ray.io/gcs-ft-deletion-timeout", _CLEANUP_S))
    if timeout_s <= head["template"]["spec"]["terminationGracePeriodSeconds"] + _CLEANUP_S:
        yield "ray.io/gcs-ft-deletion-timeout: the head's state would stay in Redis"
    if "storage" in options:
        yield "gcsFaultToleranceOptions.storage: not of Redis"
    if options.get("externalStorageNamespace"):
        yield "externalStorageNamespace: in an upgrade both clusters would have one state"


def _autoscaler(cluster: Object) -> Iterator[str]:
    head, options = cluster["headGroupSpec"], cluster.get("autoscalerOptions", {})
    environment = _environment(head)
    if not cluster.get("enableInTreeAutoscaling"):
        if environment.get("RAY_enable_autoscaler_v2") in ("1", "true"):
            yield "RAY_enable_autoscaler_v2: needs enableInTreeAutoscaling"
        return
    if "version" in options and "RAY_enable_autoscaler_v2" in environment:
        yield "RAY_enable_autoscaler_v2: stands in autoscalerOptions.version"
    for group in [head, *cluster["workerGroupSpecs"]]:
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{group.get('groupName', 'head')}: restartPolicy is Never with autoscaler v2"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds: at least 0"
    if any(v["name"] == "KUBERAY_GEN_AUTOSCALER_START_CMD" for v in options.get("env", ())):
        yield "KUBERAY_GEN_AUTOSCALER_START_CMD: KubeRay's own"


def _auth(cluster: Object) -> Iterator[str]:
    options = cluster.get("authOptions", {})
    if options.get("enableK8sTokenAuth"):
        yield "authOptions.enableK8sTokenAuth: not in a RayService"
    if options.get("mode") == "token":
        version = re.match(r"(\d+)\.(\d+)", str(cluster.get("rayVersion", "")))
        if not version or tuple(map(int, version.groups())) < _MIN_TOKEN_AUTH:
            yield "authOptions.mode: token authentication needs rayVersion 2.52 or later"
        if not options.get("secretName"):
            yield "authOptions.secretName: without it each upgrade has a new token"
