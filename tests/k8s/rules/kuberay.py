"""Mistakes in what KubeRay's operator reads."""

from tests.k8s.mistakes import (
    CLUSTER,
    CONTAINER,
    ENGINE,
    ENV,
    HEAD,
    OPTIONS,
    RAY,
    REDIS,
    REMOVE,
    UPGRADE,
    Mistake,
    in_steps,
)

MISTAKES: dict[str, list[Mistake]] = {
    "kuberay/name": [(RAY, "metadata.name", "mistral_serve", "a DNS-1035 label")],
    "kuberay/initializing-timeout": [
        (RAY, "metadata.annotations", {"ray.io/initializing-timeout": "soon"}, "no duration")
    ],
    "kuberay/deletion-delay": [(RAY, "spec.rayClusterDeletionDelaySeconds", -1, "negative")],
    "kuberay/ignored-field": [(RAY, "spec.serviceUnhealthySecondThreshold", 900, "ignores")],
    "kuberay/upgrade-type": [
        (RAY, f"{UPGRADE}.type", "RollingUpdate", "choose NewCluster")
    ],
    "kuberay/cluster-upgrade-strategy": [(RAY, f"{CLUSTER}.upgradeStrategy", {}, "of its own")],
    "kuberay/upgrade-options": [
        (RAY, f"{UPGRADE}.type", "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions")
    ],
    "kuberay/upgrade-autoscaler": [("", "", "", "needs Ray's autoscaler")],
    "kuberay/upgrade-surge": [(RAY, UPGRADE, in_steps(maxSurgePercent=101), "is 101")],
    "kuberay/upgrade-step": [
        (RAY, UPGRADE, in_steps(maxSurgePercent=25), "stepSizePercent is 50")
    ],
    "kuberay/upgrade-interval": [(RAY, UPGRADE, in_steps(intervalSeconds=0), "intervalSeconds")],
    "kuberay/upgrade-gateway": [(RAY, UPGRADE, in_steps(gatewayClassName=""), "gatewayClass")],
    "kuberay/head-service-name": [
        (RAY, f"{HEAD}.headService", {"metadata": {"name": "head"}}, "headService.metadata.name")
    ],
    "kuberay/head-ingress": [(RAY, f"{HEAD}.enableIngress", True, "to the world")],
    "kuberay/head-startup-probe": [
        (RAY, f"{HEAD}.{CONTAINER}.startupProbe", {}, "the Job that cleans Redis")
    ],
    "kuberay/serve-port": [(RAY, "spec.serveService", REMOVE, "no Service for clients")],
    "kuberay/head-proxy-health": [
        (RAY, "spec.excludeHeadPodFromServeSvc", False, "health of Serve's proxy")
    ],
    "kuberay/start-params-string": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", 1, "is not a string")
    ],
    "kuberay/start-params-resources": [
        (RAY, f"{ENGINE}.resources", {"CPU": "1"}, "both in rayStartParams and beside it")
    ],
    "kuberay/start-params-labels": [(RAY, f"{ENGINE}.rayStartParams.labels", "a=b", "labels")],
    "kuberay/group-bounds-missing": [("", "", "", "minReplicas and maxReplicas are required")],
    "kuberay/group-bounds-negative": [(RAY, f"{ENGINE}.minReplicas", -1, "is negative")],
    "kuberay/group-bounds-order": [(RAY, f"{ENGINE}.minReplicas", 5, "is above maxReplicas 4")],
    "kuberay/group-suspend": [(RAY, f"{ENGINE}.suspend", True, "cannot be suspended")],
    "kuberay/group-name": [(RAY, f"{ENGINE}.groupName", "router", "are named router")],
    "kuberay/redis-options": [("", "", "", "without gcsFaultToleranceOptions")],
    "kuberay/redis-twice": [
        (RAY, f"{HEAD}.{ENV}", {"name": "REDIS_PASSWORD"}, "REDIS_PASSWORD"),
        (RAY, f"{HEAD}.rayStartParams.redis-password", "x", "rayStartParams.redis-password"),
        (RAY, "metadata.annotations", {"ray.io/ft-enabled": "true"}, "ray.io/ft-enabled"),
    ],
    "kuberay/redis-backend": [
        (RAY, f"{REDIS}.backend", "rocksdb", "GCSFaultToleranceEmbeddedStorage"),
        (RAY, f"{REDIS}.storage", {}, "remove backend and storage"),
    ],
    "kuberay/redis-cleanup": [(RAY, "metadata.annotations", {}, "state stays in Redis")],
    "kuberay/redis-namespace": [
        (RAY, f"{REDIS}.externalStorageNamespace", "x", "have one state")
    ],
    "kuberay/autoscaler-off": [("", "", "", "the autoscaler is off")],
    "kuberay/autoscaler-version": [
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_enable_autoscaler_v2"}, "autoscalerOptions.version")
    ],
    "kuberay/restart-policy": [
        (RAY, f"{HEAD}.template.spec.restartPolicy", "Always", "can only be Never")
    ],
    "kuberay/autoscaler-idle": [(RAY, f"{OPTIONS}.idleTimeoutSeconds", -1, "negative")],
    "kuberay/autoscaler-command": [
        (RAY, f"{OPTIONS}.env", [{"name": "KUBERAY_GEN_AUTOSCALER_START_CMD"}], "itself")
    ],
    "kuberay/feature-gate": [
        (RAY, f"{CLUSTER}.networkPolicy", {}, "the feature gate RayClusterNetworkPolicy")
    ],
    "kuberay/k8s-token-auth": [
        (RAY, f"{CLUSTER}.authOptions.enableK8sTokenAuth", True, "in a RayService")
    ],
    "kuberay/token-ray-version": [(RAY, f"{CLUSTER}.rayVersion", "2.51.0", "rayVersion 2.52")],
    "kuberay/token-secret": [
        (RAY, f"{CLUSTER}.authOptions.secretName", REMOVE, "each upgrade has a new token")
    ],
}  # fmt: skip

WITHOUT_AUTOSCALER = (RAY, f"{CLUSTER}.enableInTreeAutoscaling", False, "")
OF_SEVERAL_CHANGES: dict[str, list[Mistake]] = {
    "kuberay/upgrade-autoscaler": [WITHOUT_AUTOSCALER, (RAY, UPGRADE, in_steps(), "")],
    "kuberay/group-bounds-missing": [
        WITHOUT_AUTOSCALER,
        (RAY, f"{ENGINE}.minReplicas", REMOVE, ""),
    ],
    "kuberay/autoscaler-off": [
        WITHOUT_AUTOSCALER,
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_enable_autoscaler_v2", "value": "1"}, ""),
    ],
    "kuberay/redis-options": [
        (RAY, REDIS, REMOVE, ""),
        (RAY, f"{HEAD}.{ENV}", {"name": "RAY_REDIS_ADDRESS", "value": "redis:6379"}, ""),
    ],
}
"""The changes of the mistakes that are made by several, by their rule."""
