"""Each rule notices what it is there for: one mistake at a time, in a copy of the manifests."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s import kuberay, references, security, serving
from tests.k8s.manifests import Object, base, name

CLUSTER = "spec.rayClusterConfig"
HEAD = f"{CLUSTER}.headGroupSpec"
ROUTER = f"{CLUSTER}.workerGroupSpecs.0"
ENGINE = f"{CLUSTER}.workerGroupSpecs.1"
CONTAINER = "template.spec.containers.0"

REMOVE = object()


def changed(object_name: str, path: str, value: Any) -> list[Object]:
    """The manifests with one value changed, added or, for REMOVE, taken away. In the path
    a ~ stands for a dot within a key.
    """
    objects = copy.deepcopy(base())
    place: Any
    (place,) = [object_ for object_ in objects if name(object_) == object_name]
    parts = [part.replace("~", ".") for part in path.split(".")]
    *parents, last = [int(part) if part.isdigit() else part for part in parts]
    for part in parents:
        place = place[part]
    if value is REMOVE:
        del place[last]
    elif isinstance(place, list) and isinstance(value, dict):
        place.insert(int(last), value)
    else:
        place[last] = value
    return objects


Mistake = tuple[str, str, Any, str]

RAY = "RayService mistral"
REFERENCES: list[Mistake] = [
    (RAY, "metadata.namespace", "mistral", "no manifest makes its namespace mistral"),
    ("Job weights", "metadata.namespace", REMOVE, "would land in the current one"),
    ("PriorityClass mistral-serve", "metadata.namespace", "x", "belongs to the whole cluster"),
    (RAY, f"{HEAD}.template.spec.serviceAccountName", "head", "no ServiceAccount head"),
    (RAY, f"{ENGINE}.template.spec.priorityClassName", "high", "no PriorityClass high"),
    (RAY, f"{ENGINE}.template.spec.volumes.0.name", "memory", "mounts shm, which is no volume"),
    (RAY, f"{ROUTER}.template.spec.volumes.0", {"name": "x"}, "volume x is mounted nowhere"),
    ("Job weights", "spec.template.spec.volumes.0.persistentVolumeClaim.claimName", "m", "Claim m"),
    ("Job weights", "spec.template.spec.volumes.1.configMap.name", "serve", "no ConfigMap serve"),
    ("StatefulSet redis", "spec.serviceName", "redis-headless", "no Service redis-headless"),
    (
        "StatefulSet redis",
        "spec.template.spec.containers.0.env.0.valueFrom.secretKeyRef.key",
        "pw",
        "REDIS_PASSWORD: there is no key pw in a Secret redis-password",
    ),
    (
        RAY,
        f"{CLUSTER}.authOptions.secretName",
        "ray-token",
        "no key auth_token in a Secret ray-token",
    ),
    (RAY, f"{CLUSTER}.gcsFaultToleranceOptions.redisAddress", "redis:6380", "no Service listens"),
    ("Service redis", "spec.selector.app~kubernetes~io/component", "cache", "selects no pod"),
    ("Service redis", "spec.ports.0.targetPort", "client", "has no port client"),
    (RAY, f"{ROUTER}.{CONTAINER}.ports.0.containerPort", 8001, "nothing listens on its port serve"),
    (RAY, f"{ROUTER}.{CONTAINER}.readinessProbe.httpGet.port", "http", "asks the port http"),
    (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.httpGet.port", 8000, "where nothing listens"),
    (RAY, f"{ENGINE}.{CONTAINER}.ports.0", {"name": "serve", "containerPort": 8000}, "for clients"),
    (RAY, "spec.serveService.spec.ports.0.targetPort", "http", "no router is behind the port 8000"),
    ("PodDisruptionBudget engine", "spec.selector.matchLabels.x", "y", "selects no pod"),
    ("NetworkPolicy names", "spec.podSelector.matchExpressions.0.values", ["x"], "selects no pod"),
    ("RoleBinding reader", "roleRef.name", "viewer", "no Role viewer"),
    (
        RAY,
        f"{ENGINE}.template.metadata.labels.app~kubernetes~io/part-of",
        "x",
        "does not select it",
    ),
]
KUBERAY: list[Mistake] = [
    (RAY, "metadata.name", "mistral_serve", "a DNS-1035 label"),
    (RAY, "metadata.annotations", {"ray.io/initializing-timeout": "soon"}, "a duration"),
    (RAY, "metadata.annotations", {}, "state would stay in Redis"),
    (RAY, "spec.upgradeStrategy.type", "RollingUpdate", "one of NewCluster"),
    (RAY, "spec.upgradeStrategy.type", "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions"),
    (RAY, "spec.serviceUnhealthySecondThreshold", 900, "has no effect"),
    (RAY, "spec.serveService", REMOVE, "without a port named serve"),
    (RAY, "spec.excludeHeadPodFromServeSvc", False, "health of a proxy"),
    (RAY, f"{CLUSTER}.rayVersion", "2.51.0", "needs rayVersion 2.52"),
    (RAY, f"{CLUSTER}.authOptions.secretName", REMOVE, "each upgrade has a new token"),
    (RAY, f"{CLUSTER}.authOptions.enableK8sTokenAuth", True, "not in a RayService"),
    (RAY, f"{CLUSTER}.networkPolicy", {}, "needs the gate RayClusterNetworkPolicy"),
    (RAY, f"{CLUSTER}.upgradeStrategy", {}, "not of a cluster that a RayService makes"),
    (RAY, f"{CLUSTER}.gcsFaultToleranceOptions.externalStorageNamespace", "x", "have one state"),
    (RAY, f"{CLUSTER}.gcsFaultToleranceOptions.backend", "rocksdb", "needs the gate"),
    (RAY, f"{HEAD}.headService", {"metadata": {"name": "head"}}, "headService.metadata.name"),
    (RAY, f"{HEAD}.enableIngress", True, "dashboard to the world"),
    (RAY, f"{HEAD}.{CONTAINER}.startupProbe", {}, "the Job that cleans Redis"),
    (RAY, f"{HEAD}.{CONTAINER}.env.0", {"name": "REDIS_PASSWORD"}, "stands in gcsFault"),
    (RAY, f"{HEAD}.{CONTAINER}.env.0", {"name": "RAY_enable_autoscaler_v2"}, "autoscalerOptions"),
    (RAY, f"{HEAD}.template.spec.restartPolicy", "Always", "restartPolicy is Never"),
    (RAY, f"{ENGINE}.minReplicas", 5, "minReplicas is above maxReplicas"),
    (RAY, f"{ENGINE}.resources", {"CPU": "1"}, "resources in rayStartParams and beside it"),
    (RAY, f"{ENGINE}.rayStartParams.labels", "a=b", "labels stand as labels"),
    (RAY, f"{ENGINE}.rayStartParams.num-cpus", 1, "is not a string"),
    (RAY, f"{ENGINE}.groupName", "router", "two groups have one name"),
]
SECURITY: list[Mistake] = [
    ("Job weights", "spec.template.spec.securityContext.runAsNonRoot", False, "may run as root"),
    ("Job weights", "spec.template.spec.securityContext.seccompProfile", {}, "no seccomp profile"),
    (RAY, f"{ENGINE}.{CONTAINER}.securityContext.capabilities", {}, "keeps capabilities"),
    (RAY, f"{ENGINE}.{CONTAINER}.securityContext.privileged", True, "may gain privileges"),
    (
        RAY,
        f"{ROUTER}.{CONTAINER}.securityContext.readOnlyRootFilesystem",
        False,
        "root file system",
    ),
    (RAY, f"{ENGINE}.template.spec.hostNetwork", True, "hostNetwork"),
    (RAY, f"{HEAD}.template.spec.automountServiceAccountToken", True, "into all its containers"),
    (RAY, f"{CLUSTER}.autoscalerOptions.volumeMounts.1", REMOVE, "token is missing"),
    (RAY, f"{ENGINE}.{CONTAINER}.image", "mistral-serve:0.1.0", "registry and tag or digest"),
    (RAY, f"{ENGINE}.{CONTAINER}.image", "r.example.com/mistral-serve", "registry and tag"),
    (RAY, f"{ENGINE}.{CONTAINER}.env.0", {"name": "HF_TOKEN", "value": "hf_x"}, "stands in the"),
    (RAY, f"{ENGINE}.{CONTAINER}.resources.limits", {}, "has no limit of memory"),
]
SERVING: list[Mistake] = [
    (RAY, f"{CLUSTER}.rayVersion", "2.59.0", "the lock has Ray"),
    (RAY, "spec.rayClusterDeletionDelaySeconds", 60, "an answer may take 600 s"),
    (RAY, f"{ENGINE}.template.spec.terminationGracePeriodSeconds", 600, "killed after 600 s"),
    (RAY, f"{HEAD}.template.spec.terminationGracePeriodSeconds", 900, "the head is gone before"),
    (RAY, f"{ENGINE}.{CONTAINER}.lifecycle", {}, "is not drained before it stops"),
    (
        RAY,
        f"{ENGINE}.{CONTAINER}.lifecycle.preStop.exec.command.2",
        "exec mistral-serve drain-node --within-s 600",
        "draining ends after 600 s, an answer after 630",
    ),
    (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.failureThreshold", 3, "loads a model is killed"),
    (RAY, f"{ENGINE}.{CONTAINER}.readinessProbe", REMOVE, "no readinessProbe"),
    (RAY, f"{HEAD}.rayStartParams.num-cpus", "4", "replicas on the head die with it"),
    (RAY, f"{ROUTER}.minReplicas", 1, "hold 1 of 2 routers"),
    (RAY, f"{ROUTER}.maxReplicas", 3, "no room for an update"),
    (RAY, f"{ENGINE}.rayStartParams.num-cpus", "4", "a router would fit"),
    (RAY, f"{ENGINE}.maxReplicas", 2, "no pod can take over"),
    (RAY, f"{ENGINE}.replicas", 3, "more pods than the 2 that are needed"),
    ("Job weights", f"spec.{CONTAINER}.command.1", "weight", "No such command 'weight'"),
    (RAY, f"{ENGINE}.template.spec.initContainers.0.command.2", "--waits", "No such option"),
    (
        RAY,
        f"{ROUTER}.{CONTAINER}.lifecycle.preStop.exec.command.2",
        "exec mistral-serve drain-node --timeout 690",
        "No such option",
    ),
    (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.nvidia~com/gpu", "1", "no group of pods with 2"),
    (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "24Gi", "24 GiB do not hold"),
    (RAY, f"{ROUTER}.rayStartParams.object-store-memory", "2000000000", "exceed the shared memory"),
    (RAY, "spec.serveConfigV2", "applications: []", "serveConfigV2"),
    ("ConfigMap serve-config", "data.serve~yaml", "applications: []", "another config"),
    ("PodDisruptionBudget engine", "spec.minAvailable", 2, "leaves 2 of 2"),
    ("PodDisruptionBudget router", "spec.maxUnavailable", 1, "take minAvailable, as a number"),
    ("ResourceQuota mistral-serve", "spec.hard.requests~nvidia~com/gpu", "8", "may need 16"),
    ("ResourceQuota mistral-serve", "spec.hard.pods", "10", "pods 10"),
]


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        pytest.param(rule.problems, mistake, id=f"{mistake[0]} {mistake[1]}")
        for rule, mistakes in (
            (references, REFERENCES),
            (kuberay, KUBERAY),
            (security, SECURITY),
            (serving, SERVING),
        )
        for mistake in mistakes
    ],
)
def test_a_mistake_is_noticed(rule: Callable[[list[Object]], list[str]], mistake: Mistake) -> None:
    object_name, path, value, told = mistake
    objects = changed(object_name, path, value)
    assert any(told in problem for problem in rule(objects)), rule(objects)
