"""Builds the Serve application: the one place where the deployments meet."""

import re
from typing import Any

from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from serving.autoscaling import engine_options, router_options
from serving.catalogue import CatalogueEntry
from serving.catalogue.rates import first_rates
from serving.config import AppConfig, ModelConfig, RouterConfig, TracingConfig
from serving.engine import deployment as engine
from serving.model_rules import rules_of
from serving.placement import UNLIMITED, Capacity
from serving.router import deployment as router
from serving.router.replicas.backend import Backend
from serving.router.replicas.declared_adapters import AdapterSettings
from serving.router.replicas.model import Model

NAME = "mistral"
"""The application's name in the config files."""

ROUTER = "Router"
"""The name of the routers' deployment."""

FEED = RequestRouterConfig(
    request_router_class="serving.router.replicas.directory_feed:DirectoryFeed"  # type: ignore[arg-type]
)
"""Makes Serve publish a deployment's replicas to the routers."""

VLLM_MAX_NUM_SEQS = 256
"""vLLM 0.32's default for `--max-num-seqs` on most GPUs; higher on some."""


def build(config: AppConfig) -> Application:
    """Builds the application: an Engine deployment for each model, and the Router. Raises
    ConfigError."""
    engines = {}
    models = []
    for model in config.models:
        entry = model.entry
        rules = rules_of(model)
        models.append(
            Model(
                entry.id,
                entry.aliases,
                rules,
                backend(entry),
                capacity(entry),
                first_rates(entry),
                gpus(entry),
                scales=model.autoscaling is not None,
                from_zero=model.least_replicas == 0,
                adapters=adapter_settings(model),
            )
        )
        if entry.kind == "openai":
            continue
        entry = traced(entry, config.tracing)
        engines[entry.id] = engine.Deployment.options(
            name=deployment_name(entry.id),
            request_router_config=FEED,
            **replicas(entry, model, config.router),
            **engine.options(entry, model.cpus, model.drain_timeout_s),
        ).bind(entry, rules, model.host, model.drain_timeout_s)
    options = router.options(config.router)
    scaling = config.router.autoscaling
    if scaling is not None or any(model.scales for model in models):
        options |= router_options(options.pop("num_replicas"), scaling)
    return router.Deployment.options(name=ROUTER, request_router_config=FEED, **options).bind(
        config.router, models, engines, config.tracing.traces_url
    )


def adapter_settings(model: ModelConfig) -> AdapterSettings | None:
    if not model.has_adapters:
        return None
    return AdapterSettings(model.entry, model.adapters, model.adapters_folder)


def replicas(entry: CatalogueEntry, model: ModelConfig, router: RouterConfig) -> dict[str, Any]:
    """Returns Serve's options for the number of engines of a model."""
    if model.autoscaling is None:
        return {"num_replicas": model.replicas}
    return engine_options(entry.id, model.autoscaling, router.startup_s)


def backend(entry: CatalogueEntry) -> Backend | None:
    if entry.base_url is None:
        return None
    return Backend(
        entry.base_url, entry.upstream_model or entry.id, entry.context_tokens, entry.api_key_env
    )


def capacity(entry: CatalogueEntry) -> Capacity:
    """Returns the expected capacity of a replica, used until one reports its own."""
    memory = entry.memory()
    if memory is None:
        return UNLIMITED
    max_num_seqs = int(entry.vllm_args.get("max-num-seqs", VLLM_MAX_NUM_SEQS))
    return Capacity(memory.kv_tokens, max_num_seqs)


def gpus(entry: CatalogueEntry) -> int:
    """Returns the number of GPUs of a replica."""
    if entry.accelerator != "gpu":
        return 0
    return entry.tensor_parallel_size * entry.pipeline_parallel_size


def traced(entry: CatalogueEntry, tracing: TracingConfig) -> CatalogueEntry:
    """Returns the entry with vLLM's own tracing enabled, if there is a collector."""
    if tracing.traces_url is None:
        return entry
    of_vllm = {
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",  # vLLM's own default is gRPC
        "OTEL_SERVICE_NAME": "mistral-serve-engine",
    }
    update = {
        "env": of_vllm | entry.env,
        "vllm_args": {"otlp-traces-endpoint": tracing.traces_url} | entry.vllm_args,
    }
    return entry.model_copy(update=update)


def deployment_name(model_id: str) -> str:
    """Returns `Engine-` and the model's name in characters that Kubernetes and metrics accept."""
    return "Engine-" + re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower())
