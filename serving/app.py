"""Builds the Serve application: the one place where the deployments meet."""

import re

from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from serving.config import AppConfig, ConfigError
from serving.engine import deployment as engine
from serving.router import deployment as router

NAME = "mistral"
"""The application's name in the config files."""


def build(config: AppConfig) -> Application:
    """The application of `config`: an Engine deployment for each model, and the Router. Raises
    ConfigError.
    """
    engines = {}
    aliases = {}
    for model in config.models:
        entry = model.entry()
        if entry.kind != "vllm":
            raise ConfigError(f"{entry.id}: models of kind {entry.kind} are not served yet")
        engines[entry.id] = engine.Deployment.options(
            name=deployment_name(entry.id),
            num_replicas=model.replicas,
            request_router_config=RequestRouterConfig(
                request_router_class="serving.router.directory_feed:DirectoryFeed"  # type: ignore[arg-type]
            ),
            **engine.options(entry, model.cpus, model.drain_timeout_s),
        ).bind(entry, model.host, model.drain_timeout_s)
        aliases[entry.id] = entry.aliases
    return router.Deployment.options(name="Router", **router.options(config.router)).bind(
        config.router, aliases, engines
    )


def deployment_name(model_id: str) -> str:
    """`Engine-` and the model's name in what Kubernetes and metrics accept."""
    return "Engine-" + re.sub(r"[^a-z0-9]+", "-", model_id.rsplit("/", 1)[-1].lower())
