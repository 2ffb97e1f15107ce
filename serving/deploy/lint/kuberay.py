"""Rules of KubeRay 1.7.0's operator that no schema has, after its
ray-operator/controllers/ray/utils/validation.go."""

import re
from collections.abc import Iterator
from typing import Any

from serving.deploy.kube import named
from serving.deploy.lint.finding import Finding, Report, report_on
from serving.deploy.lint.pods import upgraded_in_steps
from serving.deploy.manifests import Object

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_MAX_NAME_LENGTH = 47
_UPGRADE_TYPES = ("NewCluster", "NewClusterWithIncrementalUpgrade", "None")
_DURATION = re.compile(r"[1-9]\d*|(\d+(\.\d+)?(h|m|s|ms))+")
_CLEANUP_S = 300
"""How long KubeRay's Job that cleans Redis may take."""
_RESOURCES = ("num-cpus", "num-gpus", "memory", "resources")
_MIN_TOKEN_AUTH = (2, 52)
_GATED = {
    "historyServerOptions": "RayClusterHistoryServer",
    "networkPolicy": "RayClusterNetworkPolicy",
    "tlsOptions": "RayClusterMTLS",
}
"""Fields of a cluster behind feature gates that are off."""


def problems(service: Object) -> Iterator[Finding]:
    wrong = report_on(named(service), "kuberay")
    cluster = service["spec"]["rayClusterConfig"]
    yield from _service(service, wrong)
    yield from _upgrade(service, wrong)
    yield from _head(service, wrong)
    yield from _groups(cluster, wrong)
    yield from _fault_tolerance(service, wrong)
    yield from _autoscaler(cluster, wrong)
    yield from _auth(cluster, wrong)


def _annotations(service: Object) -> dict[str, str]:
    found: dict[str, str] = service["metadata"].get("annotations", {})
    return found


def _service(service: Object, wrong: Report) -> Iterator[Finding]:
    name, spec = service["metadata"]["name"], service["spec"]
    if len(name) > _MAX_NAME_LENGTH or not _DNS_1035.fullmatch(name):
        yield wrong(
            "name",
            f"the name {name!r} is not a DNS-1035 label of at most {_MAX_NAME_LENGTH} characters",
            "take lower-case letters, digits and hyphens, with a letter first",
        )
    timeout = str(_annotations(service).get("ray.io/initializing-timeout", "1s"))
    if not _DURATION.fullmatch(timeout):
        yield wrong(
            "initializing-timeout",
            f"the annotation ray.io/initializing-timeout is no duration: {timeout!r}",
            "write one such as 90m, or seconds",
        )
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield wrong(
            "deletion-delay", "rayClusterDeletionDelaySeconds is negative", "set it to 0 or more"
        )
    for field in ("serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"):
        if field in spec:
            yield wrong("ignored-field", f"KubeRay ignores {field}", "remove it")


def _upgrade(service: Object, wrong: Report) -> Iterator[Finding]:
    spec = service["spec"]
    cluster, strategy = spec["rayClusterConfig"], spec.get("upgradeStrategy", {})
    type_ = strategy.get("type", _UPGRADE_TYPES[0])
    if type_ not in _UPGRADE_TYPES:
        allowed = ", ".join(_UPGRADE_TYPES)
        yield wrong(
            "upgrade-type", f"there is no upgradeStrategy.type {type_}", f"choose one of {allowed}"
        )
    if "upgradeStrategy" in cluster:
        yield wrong(
            "cluster-upgrade-strategy",
            "a cluster that a RayService makes has no upgradeStrategy of its own",
            "move it from rayClusterConfig to spec",
        )
    if not upgraded_in_steps(service):
        return
    if not cluster.get("enableInTreeAutoscaling"):
        yield wrong(
            "upgrade-autoscaler",
            "an incremental upgrade needs Ray's autoscaler",
            "set enableInTreeAutoscaling: true",
        )
    options = strategy.get("clusterUpgradeOptions")
    if options is None:
        yield wrong(
            "upgrade-options",
            "an incremental upgrade needs clusterUpgradeOptions",
            "add them, as deploy/overlays/incremental-upgrade does",
        )
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not 0 <= surge <= 100:
        yield wrong(
            "upgrade-surge", f"maxSurgePercent is {surge}", "set it to a number from 0 to 100"
        )
    if not 0 <= step <= min(surge, 100):
        yield wrong(
            "upgrade-step",
            f"stepSizePercent is {step if step >= 0 else 'missing or negative'}",
            "set it to a number from 0 to maxSurgePercent",
        )
    if options.get("intervalSeconds", 0) <= 0:
        yield wrong("upgrade-interval", "intervalSeconds is missing or not positive", "set it")
    if not options.get("gatewayClassName"):
        yield wrong(
            "upgrade-gateway",
            "gatewayClassName is missing",
            "name a class of `kubectl get gatewayclasses`",
        )


def _head(service: Object, wrong: Report) -> Iterator[Finding]:
    spec = service["spec"]
    head = spec["rayClusterConfig"]["headGroupSpec"]
    container = head["template"]["spec"]["containers"][0]
    if head.get("headService", {}).get("metadata", {}).get("name"):
        yield wrong(
            "head-service-name",
            "KubeRay refuses headGroupSpec.headService.metadata.name in a RayService",
            "remove it",
        )
    if head.get("enableIngress"):
        yield wrong(
            "head-ingress",
            "headGroupSpec.enableIngress opens Ray's dashboard, which runs code, to the world",
            "remove it",
        )
    if "startupProbe" in container:
        yield wrong(
            "head-startup-probe",
            "KubeRay copies the head's startupProbe to the Job that cleans Redis, where it fails",
            "use initialDelaySeconds of the other probes",
        )
    ports = {port.get("name") for port in container.get("ports", ())}
    if "serve" not in ports and (upgraded_in_steps(service) or "serveService" not in spec):
        yield wrong(
            "serve-port",
            "KubeRay makes no Service for clients: the head has no port named serve",
            "add that port to the head, or a serveService with a port for routers",
        )
    if "serve" not in ports and not spec.get("excludeHeadPodFromServeSvc"):
        yield wrong(
            "head-proxy-health",
            "KubeRay asks the head for the health of Serve's proxy, and it has none",
            "set excludeHeadPodFromServeSvc: true",
        )


def _groups(cluster: Object, wrong: Report) -> Iterator[Finding]:
    workers = cluster.get("workerGroupSpecs", ())
    for group in [cluster["headGroupSpec"], *workers]:
        where, params = group.get("groupName", "head"), group.get("rayStartParams", {})
        for key, value in params.items():
            if not isinstance(value, str):
                yield wrong(
                    "start-params-string",
                    f"{where}: rayStartParams.{key} is not a string",
                    "put it in quotes",
                )
        if group.get("resources") and any(params.get(key) for key in _RESOURCES):
            yield wrong(
                "start-params-resources",
                f"{where}: resources stand both in rayStartParams and beside it",
                "leave one of the two",
            )
        if "labels" in params:
            yield wrong(
                "start-params-labels",
                f"{where}: KubeRay refuses rayStartParams.labels",
                "move them to the group's labels",
            )
    autoscaled = cluster.get("enableInTreeAutoscaling")
    for group in workers:
        where, least, most = group["groupName"], group.get("minReplicas"), group.get("maxReplicas")
        if not autoscaled and (least is None or most is None):
            yield wrong(
                "group-bounds-missing",
                f"{where}: without the autoscaler minReplicas and maxReplicas are required",
                "set both",
            )
        if min(least or 0, most or 0) < 0:
            yield wrong(
                "group-bounds-negative",
                f"{where}: minReplicas or maxReplicas is negative",
                "set it to 0 or more",
            )
        if least is not None and most is not None and least > most:
            yield wrong(
                "group-bounds-order",
                f"{where}: minReplicas {least} is above maxReplicas {most}",
                "lower the one or raise the other",
            )
        if autoscaled and group.get("suspend"):
            yield wrong(
                "group-suspend",
                f"{where}: a group cannot be suspended while the autoscaler is on",
                "remove suspend, or set enableInTreeAutoscaling: false",
            )
    names = [group["groupName"] for group in workers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield wrong("group-name", f"two worker groups are named {name}", "rename one of them")


def _environment(group: Object) -> dict[str, Any]:
    container = group["template"]["spec"]["containers"][0]
    return {v["name"]: v.get("value") for v in container.get("env", ())}


def _fault_tolerance(service: Object, wrong: Report) -> Iterator[Finding]:
    cluster, annotations = service["spec"]["rayClusterConfig"], _annotations(service)
    options, head = cluster.get("gcsFaultToleranceOptions"), cluster["headGroupSpec"]
    environment, params = _environment(head), head.get("rayStartParams", {})
    if options is None:
        if "RAY_REDIS_ADDRESS" in environment:
            yield wrong(
                "redis-options",
                "the head has RAY_REDIS_ADDRESS without gcsFaultToleranceOptions",
                "name Redis in gcsFaultToleranceOptions.redisAddress instead",
            )
        return
    in_two_places = [
        *(key for key in ("ray.io/ft-enabled", "ray.io/external-storage-namespace")
          if annotations.get(key)),
        *(key for key in ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME")
          if key in environment),
        *(f"rayStartParams.{key}" for key in ("redis-password", "redis-username")
          if params.get(key)),
    ]  # fmt: skip
    for key in in_two_places:
        yield wrong(
            "redis-twice",
            f"KubeRay refuses {key} beside gcsFaultToleranceOptions",
            "remove it: gcsFaultToleranceOptions says all of it",
        )
    if options.get("backend", "redis") != "redis" or "storage" in options:
        yield wrong(
            "redis-backend",
            "a backend other than Redis needs the feature gate GCSFaultToleranceEmbeddedStorage",
            "remove backend and storage, and set redisAddress",
        )
    grace_s = head["template"]["spec"].get("terminationGracePeriodSeconds", 30)
    timeout = str(annotations.get("ray.io/gcs-ft-deletion-timeout", _CLEANUP_S))
    if not timeout.isdecimal() or int(timeout) <= grace_s + _CLEANUP_S:
        yield wrong(
            "redis-cleanup",
            "the head's state stays in Redis: KubeRay gives up cleaning before the head is gone",
            f'set the annotation ray.io/gcs-ft-deletion-timeout: "{grace_s + _CLEANUP_S + 180}"',
        )
    if options.get("externalStorageNamespace"):
        yield wrong(
            "redis-namespace",
            "with externalStorageNamespace both clusters of an upgrade have one state",
            "remove it: KubeRay takes one for each cluster",
        )


def _autoscaler(cluster: Object, wrong: Report) -> Iterator[Finding]:
    head, options = cluster["headGroupSpec"], cluster.get("autoscalerOptions", {})
    version_2 = _environment(head).get("RAY_enable_autoscaler_v2")
    if not cluster.get("enableInTreeAutoscaling"):
        if version_2 in ("1", "true"):
            yield wrong(
                "autoscaler-off",
                "RAY_enable_autoscaler_v2 is set and the autoscaler is off",
                "set enableInTreeAutoscaling: true, or remove the variable",
            )
        return
    if "version" in options and "RAY_enable_autoscaler_v2" in _environment(head):
        yield wrong(
            "autoscaler-version",
            "RAY_enable_autoscaler_v2 stands beside autoscalerOptions.version",
            "remove the variable",
        )
    for group in [head, *cluster.get("workerGroupSpecs", ())]:
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            where = group.get("groupName", "head")
            yield wrong(
                "restart-policy",
                f"{where}: with autoscaler v2 restartPolicy can only be Never",
                "remove restartPolicy",
            )
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield wrong(
            "autoscaler-idle",
            "autoscalerOptions.idleTimeoutSeconds is negative",
            "set it to 0 or more",
        )
    if any(v["name"] == "KUBERAY_GEN_AUTOSCALER_START_CMD" for v in options.get("env", ())):
        yield wrong(
            "autoscaler-command",
            "KubeRay sets KUBERAY_GEN_AUTOSCALER_START_CMD itself",
            "remove it from autoscalerOptions.env",
        )


def _auth(cluster: Object, wrong: Report) -> Iterator[Finding]:
    options = cluster.get("authOptions", {})
    for field in sorted(_GATED.keys() & cluster.keys()):
        yield wrong(
            "feature-gate",
            f"rayClusterConfig.{field} needs the feature gate {_GATED[field]}, which is off",
            "remove it",
        )
    if options.get("enableK8sTokenAuth"):
        yield wrong(
            "k8s-token-auth",
            "KubeRay refuses authOptions.enableK8sTokenAuth in a RayService",
            "set authOptions.mode: token and a secretName",
        )
    if options.get("mode") != "token":
        return
    version = re.match(r"(\d+)\.(\d+)", str(cluster.get("rayVersion", "")))
    if not version or tuple(map(int, version.groups())) < _MIN_TOKEN_AUTH:
        yield wrong(
            "token-ray-version",
            "token authentication needs rayVersion 2.52 or later",
            "set rayVersion to that of the image",
        )
    if not options.get("secretName"):
        yield wrong(
            "token-secret",
            "without authOptions.secretName each upgrade has a new token",
            "name a Secret with the key auth_token, as deploy/secrets.sh makes it",
        )
