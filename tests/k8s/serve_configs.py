"""The Serve config of k8s/ with one mistake or setting."""

import re

from tests.k8s.manifests import base

ENGINE = "Engine-mistral-small-3-2-24b-instruct-2506"
"""The deployment of the model's engines."""


def serve_config(old: str, new: str) -> str:
    """The Serve config of k8s/ with another text in place of one."""
    text = str(base().service["spec"]["serveConfigV2"])
    assert old in text
    return text.replace(old, new)


def with_batches(setting: str) -> str:
    """The Serve config of k8s/ with this setting of router.batches."""
    return serve_config("batches: {max_bytes: 0}", f"batches: {setting}")


def with_engines(least: int, most: int) -> str:
    """The Serve config of k8s/ whose engines scale between these numbers."""
    scaled = f"autoscaling: {{min_replicas: {least}, max_replicas: {most}}}"
    return serve_config("replicas: 2\n", f"{scaled}\n")


def with_routers_fixed(config: str = "") -> str:
    """A Serve config, of k8s/ by default, whose routers do not scale by an entry beside args."""
    entry = "{name: Router, autoscaling_config: null, num_replicas: 2}"
    config = config or str(base().service["spec"]["serveConfigV2"])
    return config.replace("    args:\n", f"    deployments: [{entry}]\n    args:\n")


def with_deployment(options: str, name: str = ENGINE) -> str:
    """The Serve config of k8s/ with these options of a deployment beside args."""
    entry = f"    deployments: [{{name: {name}, {options}}}]\n"
    return serve_config("    args:\n", f"{entry}    args:\n")


def with_tracing(endpoint: str) -> str:
    """The Serve config of k8s/ with a collector."""
    tracing = f"      tracing: {{otlp_endpoint: {endpoint}}}\n"
    return serve_config("    args:\n", f"    args:\n{tracing}")


def of_router(setting: str) -> str:
    """The Serve config of k8s/ with one more setting of the router."""
    return serve_config("        port: 8000\n", f"        port: 8000\n        {setting}\n")


def of_model(setting: str) -> str:
    """The Serve config of k8s/ with one more setting of the model."""
    return serve_config("replicas: 2\n", f"replicas: 2\n          {setting}\n")


def with_host_kv_cache(gib: int) -> str:
    """The Serve config of k8s/ whose engines keep so much KV cache in main memory."""
    text = str(base().service["spec"]["serveConfigV2"])
    return re.sub(r"(\n +)- (model: .*)", rf"\1- \2\1  host_kv_cache_gib: {gib}", text, count=1)
