"""Builds the Serve application: the one place where the deployments meet."""

import re

from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from serving.catalogue import CatalogueEntry
from serving.config import AppConfig, ModelConfig
from serving.engine import deployment as engine
from serving.mistral import ModelRules
from serving.router import deployment as router

NAME = "mistral"
"""The application's name in the config files."""


def build(config: AppConfig) -> Application:
    """The application of `config`: an Engine deployment for each model, and the Router."""
    engines = {}
    aliases = {}
    model_rules = {}
    for model in config.models:
        entry = model.entry()
        engines[entry.id] = engine.Deployment.options(
            name=deployment_name(entry.id),
            num_replicas=model.replicas,
            request_router_config=RequestRouterConfig(
                request_router_class="serving.router.directory_feed:DirectoryFeed"  # type: ignore[arg-type]
            ),
            **engine.options(entry, model.cpus, model.drain_timeout_s),
        ).bind(entry, model.host, model.drain_timeout_s)
        aliases[entry.id] = entry.aliases
        model_rules[entry.id] = rules(entry, model)
    return router.Deployment.options(name="Router", **router.options(config.router)).bind(
        config.router, aliases, model_rules, engines
    )


def rules(entry: CatalogueEntry, model: ModelConfig) -> ModelRules:
    """What the router must know of a model to normalise its requests."""
    images = entry.vllm_args.get("limit-mm-per-prompt", {}).get("image", 0)
    return ModelRules(
        model_id=entry.id,
        tokenizer="v11",
        context_tokens=entry.vllm_args.get("max-model-len", 131072),
        image_limit=images,
    )


def deployment_name(model_id: str) -> str:
    """`Engine-` and the model's name in what Kubernetes and metrics accept."""
    return "Engine-" + re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower())
