"""Mistakes in numbers: of pods, CPUs, GPUs, memory, budgets and quotas."""

from tests.k8s.mistakes import CONFIG, CONTAINER, ENGINE, HEAD, RAY, REMOVE, ROUTER, Mistake
from tests.k8s.serve_configs import with_deployment, with_engines, with_host_kv_cache

MISTAKES: dict[str, list[Mistake]] = {
    "sizing/head-cpus": [(RAY, f"{HEAD}.rayStartParams.num-cpus", "4", "they die with it")],
    "sizing/router-pods": [(RAY, f"{ROUTER}.minReplicas", 1, "hold 1 of 2 routers")],
    "sizing/router-update": [
        (RAY, f"{ROUTER}.maxReplicas", 3, "no room for an update"),
        (RAY, CONFIG,
         with_deployment("autoscaling_config: {min_replicas: 5, max_replicas: 5}", "Router"),
         "10 must fit"),
        (RAY, CONFIG, with_deployment("autoscaling_config: null, num_replicas: 5", "Router"),
         "10 must fit"),
    ],
    "sizing/router-port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.containerPort", 8001, "is not the router's, 8000")
    ],
    "sizing/router-beside-engine": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", "4", "a router fits on its pods"),
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", REMOVE, "a router fits on its pods"),
    ],
    "sizing/engine-gpus": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.nvidia~com/gpu", "1", "pods with 2 GPUs")
    ],
    "sizing/engine-cpus": [
        (RAY, f"{ENGINE}.rayStartParams.num-cpus", "2", "1 CPUs do not fill a pod of engine")
    ],
    "sizing/engine-pods": [
        (RAY, f"{ENGINE}.replicas", 3, "more pods than the 2 that are needed"),
        (RAY, CONFIG, with_engines(1, 3), "more pods than the 1 that are needed"),
        (RAY, CONFIG, with_deployment("num_replicas: 1"), "more pods than the 1 that are needed"),
    ],
    "sizing/engine-spare": [
        (RAY, f"{ENGINE}.maxReplicas", 2, "no pod can take over"),
        (RAY, CONFIG, with_engines(2, 4), "no pod can take over"),
        (RAY, CONFIG, with_deployment("num_replicas: 9"), "beside 9 in use"),
        (RAY, CONFIG, with_deployment("autoscaling_config: null, num_replicas: 9"), "beside 9"),
        (RAY, CONFIG, with_deployment("autoscaling_config: {max_replicas: 9}"), "beside 9 in use"),
    ],
    "sizing/shared-memory": [
        (RAY, CONFIG, with_host_kv_cache(10), "/dev/shm of 12 GiB does not hold host_kv_cache_gib")
    ],
    "sizing/memory": [
        (RAY, f"{ENGINE}.{CONTAINER}.resources.limits.memory", "24Gi", "24 GiB do not hold")
    ],
    "sizing/object-store": [
        (RAY, f"{ROUTER}.rayStartParams.object-store-memory", "2000000000", "exceeds the shared")
    ],
    "sizing/budget": [
        ("PodDisruptionBudget engine", "spec.minAvailable", 2, "keeps 2 of 2"),
        (RAY, CONFIG, with_engines(1, 3), "keeps 1 of 1"),
        (RAY, CONFIG, with_deployment("num_replicas: 1"), "keeps 1 of 1"),
    ],
    "sizing/budget-kind": [
        ("PodDisruptionBudget router", "spec.maxUnavailable", 1, "minAvailable as a number")
    ],
    "sizing/quota": [
        ("ResourceQuota mistral-serve", "spec.hard.requests~nvidia~com/gpu", "8", "may need 16"),
        ("ResourceQuota mistral-serve", "spec.hard.pods", "10", "pods is 10"),
        ("ResourceQuota mistral-serve", "spec.hard.cpu", "10", "cpu is 10"),
        ("ResourceQuota mistral-serve", "spec.hard.limits~memory", "200Gi",
         "limits.memory is 200 GiB, and an upgrade may need 503.2 GiB"),
        ("ResourceQuota mistral-serve", "spec.hard.persistentvolumeclaims", "1", "may need 2"),
    ],
}  # fmt: skip
