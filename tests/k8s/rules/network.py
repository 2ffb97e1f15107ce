"""Mistakes in NetworkPolicies: what must pass does not, or what must not does."""

from tests.k8s.mistakes import CONFIG, RAY, REMOVE, Mistake
from tests.k8s.serve_configs import with_tracing

MISTAKES: dict[str, list[Mistake]] = {
    "network/blocked": [
        ("NetworkPolicy head-to-redis", "spec.egress.0.ports.0.port", 6380,
         "keep head from StatefulSet mistral-serve/redis on port 6379"),
        ("NetworkPolicy ray-nodes", "spec.ingress", [], "keep engine from router"),
        ("NetworkPolicy routers-to-redis", "spec.egress", [],
         "keep router from StatefulSet mistral-serve/redis on port 6379"),
    ],
    "network/open": [
        ("NetworkPolicy operator-to-head", "spec.ingress.0.from", REMOVE, "reaches port 8265")
    ],
    "outside/blocked": [
        ("NetworkPolicy names", "spec.egress", [], "head from names (DNS) on port 53 or 5353"),
        ("NetworkPolicy names", "spec.egress", [], "weights from names (DNS)"),
        ("NetworkPolicy operator-to-head", "spec.ingress", [],
         "keep KubeRay's operator from head on port 8265"),
        ("NetworkPolicy clients-to-routers", "spec.ingress", [],
         "keep clients from router on port 8000"),
        ("NetworkPolicy head-to-api-server", "spec.egress", [], "keep head from the API server"),
        ("NetworkPolicy weights-from-internet", "spec.egress", [],
         "weights from Hugging Face on port 443"),
        (RAY, CONFIG, with_tracing("http://otel.tracing:4318"),
         "engine from tracing.otlp_endpoint http://otel.tracing:4318 on port 4318"),
    ],
}  # fmt: skip
