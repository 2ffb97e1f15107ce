"""Everything that can be configured. One of these is the `args` of an application in a Serve
config file."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serving import catalogue
from serving.catalogue import CatalogueEntry


class ConfigError(Exception):
    """A config file that cannot be used. The message names file, field and what is allowed."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouterConfig(Section):
    """The Router deployment."""

    host: str = "0.0.0.0"
    port: int = Field(ge=1, le=65535, default=8000)
    """Router replicas on one node share the port."""
    replicas: int = Field(ge=1, default=1)
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica."""
    max_body_mib: float = Field(gt=0, default=64)
    """Larger request bodies get a 413."""
    connect_timeout_s: float = Field(gt=0, default=2)
    """For a connection to an engine."""
    replica_hold_off_s: float = Field(ge=0, default=5)
    """A replica that failed to take a request gets none for this long while there are others."""
    startup_s: int = Field(ge=1, default=120)
    """What a first replica is expected to take; the Retry-After while there is none."""
    drain_timeout_s: float = Field(ge=0, default=600)
    """A stopping router waits this long for its answers to end."""


class ModelConfig(Section):
    """A model to serve: an entry of the catalogue, and what differs from it."""

    model: str
    """Name of the catalogue entry."""
    aliases: tuple[str, ...] = ()
    """Further names that requests may use, beside the entry's own."""
    replicas: int = Field(ge=1, default=1)
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica, and of each of its pipeline stages."""
    tensor_parallel_size: int | None = Field(ge=1, default=None)
    """GPUs of one node that hold a layer together."""
    pipeline_parallel_size: int | None = Field(ge=1, default=None)
    """Nodes that the layers are spread over."""
    vllm_args: dict[str, Any] = {}
    """Flags of `vllm serve` without their dashes, over the entry's."""
    host: str | None = None
    """Address that the engines listen on; each node's own address in the cluster if not set."""
    drain_timeout_s: float = Field(ge=0, default=600)
    """A stopping replica waits this long for its answers to end."""

    @model_validator(mode="after")
    def _known(self) -> "ModelConfig":
        if self.model not in catalogue.names():
            raise ValueError(
                f"unknown model '{self.model}'; the catalogue has: {', '.join(catalogue.names())}"
            )
        return self

    def entry(self) -> CatalogueEntry:
        """The catalogue entry with this model's differences applied."""
        entry = catalogue.load(self.model)
        return entry.model_copy(
            update={
                "aliases": (*entry.aliases, *self.aliases),
                "tensor_parallel_size": self.tensor_parallel_size or entry.tensor_parallel_size,
                "pipeline_parallel_size": self.pipeline_parallel_size
                or entry.pipeline_parallel_size,
                "vllm_args": {**entry.vllm_args, **self.vllm_args},
            }
        )


class AppConfig(Section):
    """One application: a router and the models behind it."""

    router: RouterConfig = RouterConfig()
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
            entry = model.entry()
            for name in (entry.id, *entry.aliases):
                if name in seen:
                    raise ValueError(
                        f"the name '{name}' stands twice, for {seen[name]} and for {entry.id}; "
                        "each id and alias may stand once"
                    )
                seen[name] = entry.id
        return self


def load(path: Path) -> AppConfig:
    """The application's config out of a Ray Serve config file. Raises ConfigError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from None
    try:
        (application,) = document["applications"]
        args = application["args"]
    except (TypeError, KeyError, ValueError):
        raise ConfigError(
            f"{path}: expected one application with its settings under applications[0].args; "
            "deploy/serve/local.yaml shows the form"
        ) from None
    try:
        return AppConfig.model_validate(args)
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            section = _section_of(problem["loc"])
            message = f"unknown field; allowed are: {', '.join(section.model_fields)}"
        elif problem["type"] not in ("missing", "value_error"):
            message += f" (got {problem['input']!r})"
        lines.append(f"{path}: applications[0].args.{field}: {message}".replace("args.:", "args:"))
    return "\n".join(lines)


def _section_of(location: tuple[int | str, ...]) -> type[Section]:
    if location[0] == "router" and len(location) > 1:
        return RouterConfig
    if location[0] == "models" and len(location) > 2:
        return ModelConfig
    return AppConfig
