"""Rules of KubeRay 1.7.0's operator that no schema has, after its
ray-operator/controllers/ray/utils/validation.go."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from serving.deploy.finding import Finding
from serving.deploy.kube import named
from serving.deploy.lint.pods import all_groups, ports_of, ray_container, upgraded_in_steps
from serving.deploy.lint.rules import Report, report_on
from serving.deploy.objects import Object

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?")
_UPGRADE_TYPES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
_DURATION = re.compile(r"[1-9]\d*|(\d+(\.\d+)?(h|m|s|ms))+")
_CLEANUP_S = 300
"""How long KubeRay's Job that cleans Redis may take."""
_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_MIN_TOKEN_AUTH = (2, 52)
_AUTOSCALER_V2 = "RAY_enable_autoscaler_v2"
_GATED = {
    "historyServerOptions": "RayClusterHistoryServer",
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
}
"""Fields of a cluster behind feature gates that are off."""


def problems(service: Object) -> Iterator[Finding]:
    wrong, cluster = report_on(named(service), "kuberay"), service["spec"]["rayClusterConfig"]
    yield from _service(service, wrong)
    if upgraded_in_steps(service):
        yield from _steps(service["spec"], wrong)
    yield from _head(service, report_on(f"{named(service)}, head", "kuberay"))
    yield from _groups(service)
    yield from _fault_tolerance(service, wrong)
    yield from _autoscaler(service, wrong)
    yield from _auth(cluster, wrong)


def _service(service: Object, wrong: Report) -> Iterator[Finding]:
    name, spec = service["metadata"]["name"], service["spec"]
    if not _NAME.fullmatch(name):
        yield wrong("name", f"the name {name!r} is not a DNS-1035 label of at most 47 characters")
    timeout = str(_annotations(service).get("ray.io/initializing-timeout", "1s"))
    if not _DURATION.fullmatch(timeout):
        yield wrong(
            "initializing-timeout", f"ray.io/initializing-timeout is no duration: {timeout}"
        )
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield wrong("deletion-delay", "rayClusterDeletionDelaySeconds is negative")
    for field in ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"):
        if field in spec:
            yield wrong("ignored-field", f"KubeRay ignores {field}")
    type_ = spec.get("upgradeStrategy", {}).get("type", _UPGRADE_TYPES[0])
    if type_ not in _UPGRADE_TYPES:
        yield wrong("upgrade-type", f"there is no upgradeStrategy.type {type_}")
    if "upgradeStrategy" in spec["rayClusterConfig"]:
        yield wrong("cluster-upgrade-strategy", "its cluster has an upgradeStrategy of its own")


def _annotations(service: Object) -> Object:
    return dict(service["metadata"].get("annotations", {}))


def _steps(spec: Object, wrong: Report) -> Iterator[Finding]:
    if not spec["rayClusterConfig"].get("enableInTreeAutoscaling"):
        yield wrong("upgrade-autoscaler", "an incremental upgrade needs Ray's autoscaler")
    options = spec["upgradeStrategy"].get("clusterUpgradeOptions")
    if options is None:
        yield wrong("upgrade-options", "an incremental upgrade needs clusterUpgradeOptions")
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not 0 <= surge <= 100:
        yield wrong("upgrade-surge", f"maxSurgePercent is {surge}")
    if not 0 <= step <= min(surge, 100):
        what = step if step >= 0 else "missing or negative"
        yield wrong("upgrade-step", f"stepSizePercent is {what}")
    if options.get("intervalSeconds", 0) <= 0:
        yield wrong("upgrade-interval", "intervalSeconds is missing or not positive")
    if not options.get("gatewayClassName"):
        yield wrong("upgrade-gateway", "gatewayClassName is missing")


def _head(service: Object, wrong: Report) -> Iterator[Finding]:
    spec = service["spec"]
    head = spec["rayClusterConfig"]["headGroupSpec"]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield wrong("head-service-name", "KubeRay refuses headService.metadata.name")
    if head.get("enableIngress"):
        message = "enableIngress opens Ray's dashboard, which runs code, to the world"
        yield wrong("head-ingress", message)
    if "startupProbe" in ray_container(head):
        yield wrong("head-startup-probe", "its startupProbe fails in the Job that cleans Redis")
    if "serve" not in ports_of(ray_container(head)):
        if upgraded_in_steps(service) or "serveService" not in spec:
            yield wrong("serve-port", "no Service for clients: the head has no port named serve")
        if not spec.get("excludeHeadPodFromServeSvc"):
            yield wrong("head-proxy-health", "KubeRay asks it for the health of Serve's proxy")


def _groups(service: Object) -> Iterator[Finding]:
    cluster = service["spec"]["rayClusterConfig"]
    autoscaled, names = cluster.get("enableInTreeAutoscaling"), Counter[str]()
    for owner, group in all_groups(service):
        wrong, params = report_on(owner, "kuberay"), group.get("rayStartParams", {})
        for key, value in params.items():
            if not isinstance(value, str):
                yield wrong("start-params-string", f"rayStartParams.{key} is not a string")
        if group.get("resources") and any(params.get(key) for key in _RESOURCES):
            yield wrong("start-params-resources", "resources both in rayStartParams and beside it")
        if "labels" in params:
            yield wrong("start-params-labels", "KubeRay refuses rayStartParams.labels")
        if group is cluster["headGroupSpec"]:
            continue
        names[name := group["groupName"]] += 1
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not autoscaled and (least is None or most is None):
            yield wrong("group-bounds-missing", "minReplicas and maxReplicas are required")
        if min(least or 0, most or 0) < 0:
            yield wrong("group-bounds-negative", "minReplicas or maxReplicas is negative")
        if least is not None and most is not None and least > most:
            yield wrong("group-bounds-order", f"minReplicas {least} is above maxReplicas {most}")
        if autoscaled and group.get("suspend"):
            yield wrong("group-suspend", "a group cannot be suspended while the autoscaler is on")
        if names[name] > 1:
            yield wrong("group-name", f"two worker groups are named {name}")


def _environment(cluster: Object) -> dict[str, Any]:
    """The variables of Ray's container on the head."""
    container = ray_container(cluster["headGroupSpec"])
    return {v["name"]: v.get("value") for v in container.get("env", ())}


def _fault_tolerance(service: Object, wrong: Report) -> Iterator[Finding]:
    cluster, annotations = service["spec"]["rayClusterConfig"], _annotations(service)
    options, head = cluster.get("gcsFaultToleranceOptions"), cluster["headGroupSpec"]
    environment, params = _environment(cluster), head.get("rayStartParams", {})
    if options is None:
        if "RAY_REDIS_ADDRESS" in environment:
            yield wrong("redis-options", "RAY_REDIS_ADDRESS without gcsFaultToleranceOptions")
        return
    twice = [
        *(key for key in ("ray.io/ft-enabled", "ray.io/external-storage-namespace")
          if annotations.get(key)),
        *(key for key in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME")
          if key in environment),
        *(f"rayStartParams.{key}" for key in ("redis-password", "redis-username")
          if params.get(key)),
    ]  # fmt: skip
    for key in twice:
        yield wrong("redis-twice", f"KubeRay refuses {key} beside gcsFaultToleranceOptions")
    if options.get("backend", "redis") != "redis" or "storage" in options:
        gate = "the feature gate GCSFaultToleranceEmbeddedStorage"
        yield wrong("redis-backend", f"a backend other than Redis needs {gate}")
    longest_s = head["template"]["spec"].get("terminationGracePeriodSeconds", 30) + _CLEANUP_S
    timeout = str(annotations.get("ray.io/gcs-ft-deletion-timeout", _CLEANUP_S))
    if not timeout.isdecimal() or int(timeout) <= longest_s:
        what = f"to end and the Job that cleans it, up to {longest_s} s"
        yield wrong("redis-cleanup", f"state stays in Redis: KubeRay must wait for the head {what}")
    if options.get("externalStorageNamespace"):
        yield wrong("redis-namespace", "both clusters of an upgrade would have one state")


def _autoscaler(service: Object, wrong: Report) -> Iterator[Finding]:
    cluster = service["spec"]["rayClusterConfig"]
    options, environment = cluster.get("autoscalerOptions", {}), _environment(cluster)
    if not cluster.get("enableInTreeAutoscaling"):
        if environment.get(_AUTOSCALER_V2) in ("1", "true"):
            yield wrong("autoscaler-off", f"{_AUTOSCALER_V2} is set and the autoscaler is off")
        return
    if "version" in options and _AUTOSCALER_V2 in environment:
        yield wrong("autoscaler-version", f"{_AUTOSCALER_V2} beside autoscalerOptions.version")
    for owner, group in all_groups(service):
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            message = "with autoscaler v2 restartPolicy can only be Never"
            yield report_on(owner, "kuberay")("restart-policy", message)
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield wrong("autoscaler-idle", "autoscalerOptions.idleTimeoutSeconds is negative")
    command = "KUBERAY_GEN_AUTOSCALER_START_CMD"
    if any(variable["name"] == command for variable in options.get("env", ())):
        yield wrong("autoscaler-command", f"KubeRay sets {command} itself")


def _auth(cluster: Object, wrong: Report) -> Iterator[Finding]:
    options = cluster.get("authOptions", {})
    for field in sorted(_GATED.keys() & cluster.keys()):
        yield wrong("feature-gate", f"{field} needs the feature gate {_GATED[field]}")
    if options.get("enableK8sTokenAuth"):
        yield wrong("k8s-token-auth", "KubeRay refuses enableK8sTokenAuth in a RayService")
    if options.get("mode") != "token":
        return
    version = re.match(r"(\d+)\.(\d+)", str(cluster.get("rayVersion", "")))
    if not version or tuple(map(int, version.groups())) < _MIN_TOKEN_AUTH:
        yield wrong("token-ray-version", "token authentication needs rayVersion 2.52 or later")
    if not options.get("secretName"):
        yield wrong("token-secret", "without a secretName each upgrade has a new token")
