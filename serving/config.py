"""The configuration of an application: the `args` of an application in a Serve config file."""

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from serving import catalogue
from serving.adapters.config import AdapterConfig, check_adapters, check_room
from serving.catalogue import CatalogueEntry, CatalogueFile, ModelName
from serving.catalogue.entry import MAX_MODEL_LEN, Gpu, ModelImpl, check_vllm_args
from serving.catalogue.gpus import GPUS
from serving.catalogue.lora import Lora
from serving.catalogue.memory import KvCacheDtype
from serving.dispatch import DEFAULT_PRIORITY, PRIORITIES, TenantLimits
from serving.mistral.rules import Reasoning
from serving.placement.policies import PolicyName
from serving.scaling import RouterScalingConfig, ScalingConfig
from serving.section import NotYamlError, Section, explain, parse_yaml, wrong
from serving.tenants.api_key import TENANT_NAME
from serving.tenants.authentication_config import AuthenticationConfig, is_loopback

ANY_ADDRESS = frozenset(("0.0.0.0", "::"))
"""Hosts that listen on all addresses of their node, at which no other node can reach them."""

_FIXED_OR_SCALED = "cannot be combined with autoscaling; set one of the two"


class ConfigError(Exception):
    """The config file is unusable. The message names the file, the field and what is allowed."""


class AdmissionConfig(Section):
    """The queue of requests that no replica has headroom for: its length, its longest wait, its
    order."""

    max_waiting: int = Field(ge=0, default=1000)
    """Requests that may wait for a model in each router; further ones get a 429."""
    max_wait_s: float = Field(gt=0, default=30)
    """The longest wait for capacity. A request whose expected wait is longer is rejected at once.
    While no replica is up, the start-up time of the first is added."""
    max_itl_ms: float | None = Field(gt=0, default=None)
    """The longest inter-token latency: a replica decodes no more at a time than it can at that
    pace, as measured. Without it, a replica is filled up to its KV cache and its batch."""
    default_priority: int = Field(ge=0, lt=PRIORITIES, default=DEFAULT_PRIORITY)
    """The priority of requests without `x-priority`; higher goes first."""


class TenantConfig(Section):
    """Those whose requests are counted and ordered together, by their API keys or tokens."""

    name: str = Field(pattern=TENANT_NAME)
    """The tenant's name in metrics, the request log and traces."""
    max_priority: int = Field(ge=0, lt=PRIORITIES, default=PRIORITIES - 1)
    """The highest priority of the tenant's requests, whatever their `x-priority`."""
    weight: float = Field(gt=0, default=1)
    """The tenant's part of the engines' time while others want more than is left, relative to their
    weights."""
    limits: TenantLimits | None = None
    """What the tenant may use at most, even if nobody else wants it."""


class ResponsesConfig(Section):
    """The stored responses of /v1/responses, which clients continue by `previous_response_id`."""

    folder: str | None = None
    """Where the routers of a node keep them, on a disk of that node; by default in the session
    folder of Ray, so that they end with the service. They contain prompts and answers."""
    redis_url: str | None = None
    """A Redis that keeps them for the routers of all nodes, in place of a folder of each node:
    `redis://host:6379`, or `rediss://` for TLS. It must not evict keys."""
    redis_password_env: str | None = None
    """The routers' environment variable with the password of Redis."""
    keep_s: float = Field(gt=0, default=24 * 3600)
    """How long a response is kept."""
    max_bytes: int = Field(ge=0, default=256 * 1024**2)
    """The size of all of them on a node, or in Redis, of which each tenant has an equal share; the
    oldest go first. 0: none is stored, and `previous_response_id` and `background` are refused."""

    @field_validator("redis_url")
    @classmethod
    def _is_of_redis_without_password(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port == 0:
                raise ValueError("allowed is redis://host:port, or rediss:// for TLS")
            if parts.password is not None or "password" in parts.query:
                raise ValueError("must hold no password: name its variable in redis_password_env")
        return url

    @model_validator(mode="after")
    def _are_in_one_place(self) -> "ResponsesConfig":
        if self.redis_url is not None and self.folder is not None:
            raise wrong("folder", "cannot be combined with redis_url; set one of the two")
        if self.redis_url is None and self.redis_password_env is not None:
            raise wrong("redis_password_env", "has no effect without redis_url")
        return self


class TlsConfig(Section):
    """TLS between clients and routers, 1.2 or later."""

    certificate_file: str
    """A file in PEM with the certificate and those between it and its authority's, where the
    routers run. A renewed one is taken within a minute."""
    key_file: str
    """A file in PEM with the certificate's key, not encrypted."""


class LedgerConfig(Section):
    """The usage ledger: the tokens and GPU time of each tenant, API key and model."""

    folder: str | None = None
    """Where the routers keep it: a folder that all of them share and that outlives them, as on a
    volume; by default in the session folder of Ray, where it ends with the service. It contains
    nothing of prompts or answers."""
    keep_days: int = Field(ge=0, default=400)
    """How many days the sums of a day are kept. 0: no usage is kept."""
    keep_entries_days: int = Field(ge=1, default=7)
    """How many days the entries of single requests are kept beside the sums."""


class BatchesConfig(Section):
    """The files of /v1/files and the batches of /v1/batches, which are answered in what other
    requests leave free."""

    folder: str | None = None
    """Where they are kept: on a disk of the node, or on a volume that all routers mount and that
    has POSIX locks and links (NFS 4, CephFS, Lustre). By default in the session folder of Ray, so
    that they end with the service. They contain prompts and answers."""
    keep_s: float = Field(ge=3600, default=30 * 24 * 3600)
    """How long a file is kept after it was made, and a batch after it was created."""
    max_bytes: int = Field(ge=0, default=4 * 1024**3)
    """The size of all files, of which each tenant has an equal share: whoever has used it can
    upload nothing and begin no batch. 0: there are no files and batches."""
    max_file_mib: float = Field(gt=0, default=200)
    """Larger files get a 413."""
    scale_up: bool = False
    """Whether the requests of batches count in autoscaling, as others do."""


class RouterConfig(Section):
    """The Router deployment."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is all of the node. If other machines can reach it,
    `authentication` must say who may use the API."""
    port: int = Field(ge=1, le=65535, default=8000)
    """Router replicas on one node share the port."""
    tls: TlsConfig | None = None
    """TLS on that port. Prometheus reads each router at an address of its own, without TLS."""
    replicas: int = Field(ge=1, default=1)
    autoscaling: RouterScalingConfig | None = None
    """Scales the number of routers, in place of a fixed one."""
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica."""
    max_body_mib: float = Field(gt=0, default=64)
    """Larger request bodies get a 413."""
    max_bodies_mib: float = Field(gt=0, default=1024)
    """Size of all request bodies that a router holds, from their first byte to the end of the
    answer; a body for which there is no room gets a 503."""
    connect_timeout_s: float = Field(gt=0, default=2)
    """Timeout for connecting to an engine."""
    placement: PolicyName = "least_cost"
    """The policy that chooses a replica for each request. All but the default are for comparison,
    and `session_hash` for keeping a session (`x-session-id`, or `prompt_cache_key` in the body) on
    one replica."""
    admission: AdmissionConfig = AdmissionConfig()
    responses: ResponsesConfig = ResponsesConfig()
    ledger: LedgerConfig = LedgerConfig()
    batches: BatchesConfig = BatchesConfig()
    authentication: AuthenticationConfig = AuthenticationConfig()
    tenants: tuple[TenantConfig, ...] = ()
    """Those that API keys and tokens belong to. If empty there is one, `default`."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins of web pages whose scripts may use the paths below /v1/, as `https://example.com`;
    `*` is any. Browsers refuse answers to all others."""
    ui: bool = False
    """Whether to serve the page at /-/ui, which shows the models and their load to anyone who can
    reach the router, and lets them try a prompt; with the keys that `authentication` requires."""
    replica_backoff_s: float = Field(ge=0, default=1)
    """A replica that failed gets no request for this long, then until a probe finds it healthy;
    doubled for each consecutive failure, up to a minute."""
    poison_keep_s: float = Field(gt=0, default=3600)
    """How long a request that ends engines is refused, unless new engines replace them all."""
    startup_s: float = Field(gt=0, default=120)
    """The expected start-up time of the first replica, while there is none."""
    drain_timeout_s: float = Field(ge=0, default=600)
    """How long a stopping router waits for its answers to end."""

    @field_validator("tenants")
    @classmethod
    def _tenants_are_distinct(cls, tenants: tuple[TenantConfig, ...]) -> tuple[TenantConfig, ...]:
        names = [tenant.name for tenant in tenants]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the tenant '{name}' is listed twice")
        return tenants

    @model_validator(mode="after")
    def _is_not_open_by_mistake(self) -> "RouterConfig":
        authentication = self.authentication
        if self.tenants and not authentication.knows_callers:
            raise wrong(
                "tenants",
                "cannot be told apart without authentication.keys_file or authentication.oidc",
            )
        is_open = not authentication.knows_callers and not authentication.allow_anonymous
        if is_open and not is_loopback(self.host):
            raise wrong(
                "host",
                f"everyone who reaches {self.host} could use the API. Set authentication.keys_file "
                "and make keys with `mistral-serve keys create`, or set authentication.oidc, or "
                "authentication.allow_anonymous: true if that is meant",
            )
        return self

    @model_validator(mode="after")
    def _replicas_are_fixed_or_scaled(self) -> "RouterConfig":
        if self.autoscaling is not None and "replicas" in self.model_fields_set:
            raise wrong("replicas", _FIXED_OR_SCALED)
        return self

    @property
    def least_replicas(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas

    @property
    def most_replicas(self) -> int:
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas


_TRACES_PATH = "/v1/traces"

_OVER_THE_ENTRY = (
    "base_url",
    "weights",
    "revision",
    "context_tokens",
    "image_limit",
    "gpu",
    "gpu_memory_utilization",
    "kv_cache_dtype",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "model_impl",
)
_OF_ANY_KIND = frozenset(
    {
        *("model", "variant", "aliases", "base_url", "context_tokens", "image_limit"),
        *("default_system_prompt", "reasoning"),
    }
)
"""Settings that apply to the router; the others apply to engines."""


class ModelConfig(Section):
    """A model to serve: an entry of the catalogue, and overrides of it."""

    model: ModelName
    """Name of the catalogue entry, or path of a YAML file of the same format: relative to the
    config file, or to the working directory where Ray Serve reads the config."""
    variant: str | None = None
    """The entry's variant for other hardware or weights, as `mistral-serve models` lists them."""
    aliases: tuple[str, ...] = ()
    """Further names that requests may use, beside the entry's own."""
    base_url: str | None = None
    """URL of the server that runs a model of kind openai, in place of the entry's."""
    weights: str | None = None
    """A folder or repository with the same weights, in place of the entry's."""
    revision: str | None = None
    """Commit of the weights' repository."""
    context_tokens: int | None = Field(ge=1, default=None, validation_alias=MAX_MODEL_LEN)
    """Limit on the tokens of a request's prompt and answer together."""
    image_limit: int | None = Field(ge=0, default=None)
    """Limit on the images in a request, in place of the entry's; 0: text only."""
    default_system_prompt: bool = False
    """Whether requests without a system prompt get the one that the model's makers recommend."""
    public_system_prompts: tuple[str, ...] = ()
    """System prompts that are no secret, with the placeholders of SYSTEM_PROMPT.txt or without: the
    tenants share their place in the engines' prefix caches. All else is cached for each tenant."""
    reasoning: Reasoning = "content"
    """Whether reasoning stays in an answer's content or goes to a field of its own, `reasoning`."""
    loop_guard: bool = True
    """Whether to stop answers that repeat themselves endlessly."""
    allowed_image_domains: tuple[str, ...] = ()
    """Hosts that images may be fetched from, in place of the entry's."""
    replicas: int = Field(ge=1, default=1)
    autoscaling: ScalingConfig | None = None
    """Scales the number of replicas, in place of a fixed one."""
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica, and of each of its pipeline stages."""
    gpu: Gpu = None
    """Type of the GPUs, or the usable memory of one in GiB, in place of the entry's."""
    gpu_memory_utilization: float | None = Field(gt=0, le=1, default=None)
    """Share of a GPU's memory that vLLM takes, in place of the entry's."""
    kv_cache_dtype: KvCacheDtype | None = None
    """Data type of the KV cache, in place of the entry's."""
    tensor_parallel_size: int | None = Field(ge=1, default=None)
    """Number of GPUs on one node that each layer is split over."""
    pipeline_parallel_size: int | None = Field(ge=1, default=None)
    """Number of nodes that the layers are distributed over."""
    model_impl: ModelImpl | None = None
    """The implementation of the network that vLLM runs, in place of the entry's."""
    vllm_args: dict[str, Any] = Field(default_factory=dict)
    """Flags of `vllm serve` without their dashes; they override the entry's."""
    adapters: tuple[AdapterConfig, ...] = ()
    """LoRA adapters of the model, which requests ask for by their names."""
    adapters_folder: str | None = None
    """A folder with a YAML file of the same fields for each further adapter, where the routers run:
    files that come, change or go take effect within two seconds."""
    lora: Lora | None = None
    """The room for adapters, in place of the default one."""
    host: str | None = None
    """Address that the engines listen on and that routers reach them at; by default each node's own
    address in the cluster."""
    drain_timeout_s: float = Field(ge=0, default=600)
    """How long a stopping replica waits for its answers to end."""

    @field_validator("host")
    @classmethod
    def _is_an_address_to_reach(cls, host: str | None) -> str | None:
        if host in ANY_ADDRESS:
            raise ValueError(
                f"routers cannot reach an engine at {host}; allowed is an address of the node, and "
                "without the setting it is the node's own in the cluster"
            )
        return host

    @model_validator(mode="after")
    def _fits_its_gpus(self) -> "ModelConfig":
        if self.file.kind == "openai":
            for field in sorted(self.model_fields_set - _OF_ANY_KIND):
                raise wrong(
                    field,
                    f"has no effect on {self.file.id}: a model of kind openai runs on the server "
                    "at its base_url",
                )
        if self.autoscaling is not None and "replicas" in self.model_fields_set:
            raise wrong("replicas", _FIXED_OR_SCALED)
        variants = self.file.variants
        if self.variant is not None and self.variant not in variants:
            raise wrong(
                "variant",
                f"unknown variant '{self.variant}' of {self.model}; "
                f"it has: {', '.join(variants) or 'none'}",
            )
        check_vllm_args(self.vllm_args)
        check_adapters(self.adapters, self.adapters_folder, self.lora)
        try:
            entry = self.entry
        except ValidationError as error:
            field, message = explain(error, CatalogueEntry)[0]
            raise wrong(field, message) from None
        check_room(entry)
        memory = entry.memory()
        if memory and not memory.fits:
            raise wrong(
                "context_tokens",
                f"{entry.context_tokens} tokens do not fit the memory of {memory.gpus} x "
                f"{entry.gpu}:\n" + "\n".join(memory.lines()) + "\nLower context_tokens, take "
                "another variant or more GPUs (tensor_parallel_size), or set gpu to the type that "
                f"you have: {', '.join(GPUS)}, or its usable memory in GiB.",
            )
        return self

    @property
    def least_replicas(self) -> int:
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas

    @property
    def most_replicas(self) -> int:
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas

    @property
    def has_adapters(self) -> bool:
        return bool(self.adapters) or self.adapters_folder is not None

    @property
    def own_file(self) -> bool:
        """Whether the model comes from a user's file and not from the catalogue."""
        return self.model.endswith((".yaml", ".yml"))

    @cached_property
    def file(self) -> CatalogueFile:
        return catalogue.find(self.model)

    @cached_property
    def entry(self) -> CatalogueEntry:
        """The catalogue entry with this model's overrides applied."""
        entry = self.file.entry(self.variant)
        update: dict[str, Any] = {
            "aliases": (*entry.aliases, *self.aliases),
            "vllm_args": {**entry.vllm_args, **self.vllm_args},
        }
        if self.allowed_image_domains:
            update["allowed_image_domains"] = self.allowed_image_domains
        if not self.loop_guard:
            update["loop_guard"] = None
        if self.has_adapters:
            update["lora"] = self.lora or Lora()
        if self.weights is not None:
            update["revision"] = None  # the entry's revision belongs to another repository
        for field in _OVER_THE_ENTRY:
            if (value := getattr(self, field)) is not None:
                update[field] = value
        return CatalogueEntry.model_validate(entry.model_dump(exclude_unset=True) | update)


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
            adapters = (adapter.name for adapter in model.adapters)
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
        (application,) = document["applications"]
        args = application["args"]
    except (TypeError, KeyError, ValueError):
        raise ConfigError(
            f"{path}: expected one application with its settings under applications[0].args; "
            "deploy/serve/local.yaml shows the form"
        ) from None
    try:
        return AppConfig.model_validate(args, context=path.parent)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(
                ".".join(filter(None, (f"{path}: applications[0].args", field))) + f": {message}"
                for field, message in explain(error, AppConfig)
            )
        ) from None
