"""The settings of an application: the `args` of an application in a Serve config file."""

from pathlib import Path

from pydantic import ValidationError, field_validator, model_validator

from serving.config.model import ModelConfig
from serving.config.router import RouterConfig
from serving.config.serve_file import ServeFileError, application_args
from serving.section import NotYamlError, Section, explain, parse_yaml

_TRACES_PATH = "/v1/traces"


class ConfigError(Exception):
    """The config file is unusable. The message names the file, the field and what is allowed."""


class TracingConfig(Section):
    """Tracing of requests, from the router into vLLM."""

    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector that accepts OTLP over HTTP, such as
    http://collector:4318; without it nothing is traced. OpenTelemetry's own environment variables,
    such as `OTEL_TRACES_SAMPLER`, apply to routers and engines."""

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_a_base_url(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        endpoint = endpoint.rstrip("/")
        if not endpoint.startswith(("http://", "https://")) or endpoint.endswith(_TRACES_PATH):
            raise ValueError(
                f"allowed is the base URL of a collector, such as http://collector:4318, to which "
                f"{_TRACES_PATH} is added (got '{endpoint}')"
            )
        return endpoint

    @property
    def traces_url(self) -> str | None:
        return None if self.otlp_endpoint is None else self.otlp_endpoint + _TRACES_PATH


class AppConfig(Section):
    """One application: a router and the models behind it."""

    router: RouterConfig = RouterConfig()
    tracing: TracingConfig = TracingConfig()
    models: tuple[ModelConfig, ...]

    @field_validator("models")
    @classmethod
    def _at_least_one(cls, models: tuple[ModelConfig, ...]) -> tuple[ModelConfig, ...]:
        if not models:
            raise ValueError("at least one model is needed")
        return models

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "AppConfig":
        seen: dict[str, str] = {}
        for model in self.models:
            entry = model.entry
            adapters = (name for adapter in model.adapters for name in adapter.names)
            for name in (entry.id, *entry.aliases, *adapters):
                if name in seen:
                    raise ValueError(
                        f"the name '{name}' is used twice, by {seen[name]} and by {entry.id}; "
                        "each id and alias must be unique"
                    )
                seen[name] = entry.id
        return self


def load(path: Path) -> AppConfig:
    """Loads the application's config from a Ray Serve config file. Raises ConfigError."""
    try:
        document = parse_yaml(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except NotYamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        args = application_args(document)
    except ServeFileError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return AppConfig.model_validate(args, context=path.parent)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                ".".join(filter(None, (f"{path}: applications[0].args", field))) + f": {message}"
                for field, message in explain(error, AppConfig)
            )
        ) from None
