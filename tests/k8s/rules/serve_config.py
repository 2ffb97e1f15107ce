"""Mistakes in the Serve config, and beside the args of its application."""

from tests.k8s.mistakes import CLUSTER, CONFIG, RAY, Mistake
from tests.k8s.serve_configs import (
    of_model,
    serve_config,
    with_deployment,
    with_engines,
    with_routers_fixed,
)

MISTAKES: dict[str, list[Mistake]] = {
    "serve_config/ray-version": [(RAY, f"{CLUSTER}.rayVersion", "2.59.0", "rayVersion is not")],
    "serve_config/invalid": [
        (RAY, "spec.serveConfigV2", "applications: []", "serveConfigV2"),
        (RAY, "spec.serveConfigV2", "{", "serveConfigV2"),
        (RAY, "spec.serveConfigV2", "a: 1\na: 2", "serveConfigV2: not YAML: line 2: a stands"),
        (RAY, CONFIG, serve_config("app:build", "app:buidl"), "import_path: must be"),
        (RAY, CONFIG, serve_config(": Disabled", ": Disabeld"), "proxy_location: must be Disabled"),
        (RAY, CONFIG, serve_config(": Disabled", ": EveryNode"), "proxy_location: must be"),
        (RAY, CONFIG, serve_config("proxy_location", "proxy_locatoin"), "unknown field"),
        (RAY, CONFIG, serve_config("route_prefix", "rout_prefix"), "unknown field"),
        (RAY, CONFIG, of_model("max_model_len: 262144"), "262144 is above 131072"),
    ],
    "serve_config/proxy-location": [
        (RAY, CONFIG, serve_config("proxy_location: Disabled", ""), "has no proxy_location")
    ],
    "serve_config/vllm-args": [
        (RAY, CONFIG, of_model("vllm_args: {max-num-seqz: 8}"), "--max-num-seqz"),
        (RAY, CONFIG, of_model("vllm_args: {max-num-seqs: many}"), "--max-num-seqs"),
    ],
    "serve_config/other-config": [
        ("ConfigMap serve-config", "data.serve~yaml", "applications: []", "another config"),
        ("ConfigMap serve-config", "data.serve~yaml", "{", "another config"),
    ],
    "deployments/name": [
        (RAY, CONFIG, with_deployment("num_replicas: 3", "Engine-mistral-small-3.2"),
         "deployments[0].name: the application has no Engine-mistral-small-3.2, but Router, Eng"),
    ],
    "deployments/field": [
        (RAY, CONFIG, with_deployment("num_replica: 3"), "deployments[0].num_replica is no option")
    ],
    "deployments/autoscaling": [
        (RAY, CONFIG, with_deployment("autoscaling_config: {max_replicas: 3}"), "policy of scal"),
        (RAY, CONFIG, with_deployment("num_replicas: auto"), "policy of scaling"),
        (RAY, CONFIG, with_routers_fixed(with_engines(2, 3)), "by which engines scale"),
    ],
    "deployments/num-replicas": [
        (RAY, CONFIG, with_deployment("num_replicas: 3", "Router"), "of Router has no effect")
    ],
}  # fmt: skip
