"""A small service on Kubernetes, that the server and its controllers are content with."""

import copy
from typing import Any

from tests.cluster.cluster import Cluster

Object = dict[str, Any]

_SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(name: str, image: str, **more: Any) -> Object:
    """A container that the restricted pod security standard takes."""
    return {"name": name, "image": image, "securityContext": _SAFE, **more}


def limits(**amounts: str) -> Object:
    return {"limits": {name.replace("gpu", "nvidia.com/gpu"): amounts[name] for name in amounts}}


def ray_service(name: str = "mistral", gpus: str = "2") -> Object:
    head = container(
        "ray-head",
        "ray:2.60.0",
        ports=[
            {"containerPort": 8265, "name": "dashboard", "protocol": "TCP"},
            {"containerPort": 8000, "name": "serve", "protocol": "TCP"},
        ],
        resources=limits(cpu="4", memory="16Gi"),
    )
    worker = container(
        "ray-worker", "ray:2.60.0", resources=limits(cpu="8", memory="64Gi", gpu=gpus)
    )
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name, "namespace": "mistral"},
        "spec": {
            "serveConfigV2": "applications:\n- name: chat\n  deployments: [{name: Router}]\n",
            "rayClusterConfig": {
                "rayVersion": "2.60.0",
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": {"spec": {"containers": [head]}},
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "gpu",
                        "replicas": 1,
                        "minReplicas": 1,
                        "maxReplicas": 4,
                        "numOfHosts": 1,
                        "priority": 0,
                        "rayStartParams": {},
                        "template": {"spec": {"containers": [worker]}},
                    }
                ],
            },
        },
    }


NAMESPACE: Object = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {
        "name": "mistral",
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
    },
}

REDIS: Object = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "redis", "namespace": "mistral"},
    "spec": {
        "serviceName": "redis",
        "selector": {"matchLabels": {"app": "redis"}},
        "template": {
            "metadata": {"labels": {"app": "redis"}},
            "spec": {
                "containers": [
                    container(
                        "redis",
                        "redis:7",
                        ports=[{"containerPort": 6379, "name": "redis"}],
                        resources=limits(cpu="1", memory="1Gi"),
                    )
                ]
            },
        },
    },
}

REDIS_SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "redis", "namespace": "mistral"},
    "spec": {
        "selector": {"app": "redis"},
        "ports": [{"name": "redis", "port": 6379, "targetPort": "redis"}],
    },
}

SERVICE = (NAMESPACE, REDIS, REDIS_SERVICE, ray_service())
RAY_SERVICES = {
    "group": "ray.io",
    "version": "v1",
    "namespace": "mistral",
    "plural": "rayservices",
}
"""The arguments of CustomObjectsApi that say where the RayService is."""


def serve(cluster: Cluster) -> None:
    for each in SERVICE:
        cluster.create(copy.deepcopy(each))


def conditions(service: Object) -> dict[str, str]:
    """The status of each condition of a RayService, by its type."""
    return {each["type"]: each["status"] for each in service["status"]["conditions"]}
