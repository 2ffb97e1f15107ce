"""Mistakes in what one manifest names of another, and manifests that are malformed."""

from tests.k8s.mistakes import (
    CLUSTER,
    CONTAINER,
    ENGINE,
    HEAD,
    JOB,
    POD,
    RAY,
    REDIS,
    REMOVE,
    ROUTER,
    STATE,
    Mistake,
)

MISTAKES: dict[str, list[Mistake]] = {
    "linter/malformed": [
        (RAY, HEAD, REMOVE, "RayService mistral-serve/mistral: the manifest"),
        (RAY, HEAD, REMOVE, "missing field 'headGroupSpec'"),
        (RAY, f"{ENGINE}.{CONTAINER}.image", REMOVE, "missing field 'image'"),
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "48GiB", "'48GiB' is no amount"),
        (RAY, f"{ENGINE}.maxReplicas", "many", "many"),
        ("Service redis", "spec.ports.0.port", None, "Service mistral-serve/redis: the manifest"),
        (JOB, "spec.template", [], "Job mistral-serve/weights: the manifest"),
        ("NetworkPolicy names", "spec.podSelector", "text", "NetworkPolicy mistral-serve/names:"),
        ("NetworkPolicy head-to-redis", "spec.egress.0.to", [{"ipBlock": {"cidr": "10"}}],
         "NetworkPolicy mistral-serve/head-to-redis: the manifest"),
    ],
    "references/namespace": [
        (RAY, "metadata.namespace", "mistral", "no manifest makes its namespace mistral")
    ],
    "references/no-namespace": [
        (JOB, "metadata.namespace", REMOVE, "would land in the current one")
    ],
    "references/cluster-wide": [
        ("PriorityClass mistral-serve", "metadata.namespace", "x", "belongs to the whole cluster")
    ],
    "references/duplicate": [("ServiceAccount workload", "metadata.name", "ray-head", "twice")],
    "references/missing": [
        (RAY, f"{HEAD}.template.spec.serviceAccountName", "head", "no ServiceAccount head"),
        (RAY, f"{ENGINE}.template.spec.priorityClassName", "high", "no PriorityClass high"),
        (JOB, f"{POD}.volumes.0.persistentVolumeClaim.claimName", "m", "PersistentVolumeClaim m"),
        (JOB, f"{POD}.volumes.1.configMap.name", "serve", "no ConfigMap serve"),
        (STATE, "spec.serviceName", "redis-headless", "no Service redis-headless"),
        ("RoleBinding reader", "roleRef.name", "viewer", "no Role viewer"),
        ("RoleBinding reader", "subjects.0", {"kind": "ServiceAccount", "name": "x"},
         "no ServiceAccount x"),
    ],
    "references/no-volume": [
        (RAY, f"{ENGINE}.template.spec.volumes.0.name", "memory", "mounts shm, which is no volume")
    ],
    "references/unused-volume": [
        (RAY, f"{ROUTER}.template.spec.volumes.0", {"name": "x"}, "volume x is mounted nowhere")
    ],
    "references/config-map-key": [
        (JOB, f"{POD}.volumes.1.configMap.items", [{"key": "a"}], "no key a in the ConfigMap")
    ],
    "references/secret-key": [
        (STATE, f"{POD}.containers.0.env.0.valueFrom.secretKeyRef.key", "pw",
         "the Secret redis-password has no key pw"),
        (RAY, f"{CLUSTER}.authOptions.secretName", "hf-token", "hf-token has no key auth_token"),
        (RAY, f"{REDIS}.redisPassword.valueFrom.secretKeyRef.key", "pw", "no key pw"),
    ],
    "references/topology-spread": [
        (RAY, f"{ENGINE}.template.metadata.labels.app~kubernetes~io/part-of", "x",
         "does not select it")
    ],
}  # fmt: skip
