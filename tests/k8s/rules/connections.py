"""Mistakes in the ports, selectors and hosts by which pods are found."""

from tests.k8s.mistakes import CONFIG, CONTAINER, ENGINE, RAY, REDIS, ROUTER, Mistake
from tests.k8s.serve_configs import of_model, serve_config

MISTAKES: dict[str, list[Mistake]] = {
    "connections/redis-address": [
        (RAY, f"{REDIS}.redisAddress", "redis:6380", "no Service listens")
    ],
    "connections/target-port": [
        ("Service redis", "spec.ports.0.targetPort", "client", "has no port client"),
        ("PodMonitor ray-workers", "spec.podMetricsEndpoints.0.port", "http", "has no port http"),
    ],
    "connections/port": [
        (RAY, f"{ROUTER}.{CONTAINER}.ports.0.containerPort", 8001, "nothing listens on its port")
    ],
    "connections/probe-port-name": [
        (RAY, f"{ROUTER}.{CONTAINER}.readinessProbe.httpGet.port", "http", "asks http, no port")
    ],
    "connections/probe-port": [
        (RAY, f"{ENGINE}.{CONTAINER}.livenessProbe.httpGet.port", 8000, "where nothing listens")
    ],
    "connections/clients-to-engine": [
        (RAY, f"{ENGINE}.{CONTAINER}.ports.0", {"name": "serve", "containerPort": 8000},
         "is behind the port 8000 for clients"),
        (RAY, "spec.serveService.spec.ports.0.targetPort", 8000, "is behind the port 8000"),
    ],
    "connections/clients-without-router": [
        (RAY, "spec.serveService.spec.ports.0.targetPort", "http", "no router is behind the port")
    ],
    "connections/selects-nothing": [
        ("PodDisruptionBudget engine", "spec.selector.matchLabels.x", "y", "selects no pod"),
        ("PodMonitor ray-head", "spec.selector.matchLabels.x", "y", "selects no pod"),
        ("Service redis", "spec.selector.app~kubernetes~io/component", "cache", "selects no pod"),
        ("NetworkPolicy names", "spec.podSelector.matchExpressions.0.values", ["x"],
         "selects no pod"),
    ],
    "connections/route-backend": [
        ("HTTPRoute mistral-serve", "spec.rules.0.backendRefs.0.port", 80, "no Service mistral-s")
    ],
    "connections/router-host": [
        (RAY, CONFIG, serve_config("host: 0.0.0.0\n", "host: 127.0.0.1\n"), "is 127.0.0.1"),
        (RAY, CONFIG, serve_config("        host: 0.0.0.0\n", ""), "is 127.0.0.1"),
        (RAY, CONFIG, serve_config("host: 0.0.0.0\n", "host: localhost\n"), "is localhost"),
    ],
    "connections/engine-host": [
        (RAY, CONFIG, of_model("host: 127.0.0.1"), "routers of other pods do not reach it")
    ],
}  # fmt: skip
