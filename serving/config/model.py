"""The settings of a model: an entry of the catalogue, and overrides of it."""

from functools import cached_property
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from serving import catalogue
from serving.adapters.config import AdapterConfig, check_adapters, check_room
from serving.catalogue import CatalogueEntry, CatalogueFile, ModelName
from serving.catalogue.claims import is_stretched
from serving.catalogue.entry import MAX_MODEL_LEN, Gpu, ModelImpl
from serving.catalogue.gpus import GPUS
from serving.catalogue.lora import Lora
from serving.catalogue.memory import KvCacheDtype
from serving.catalogue.reserved_flags import check_vllm_args
from serving.config.scaled import Scaled
from serving.mistral.rules import Reasoning
from serving.scaling import ScalingConfig
from serving.section import explain, wrong

ANY_ADDRESS = frozenset(("0.0.0.0", "::"))
"""Hosts that listen on all addresses of their node, at which no other node can reach them."""

_OVER_THE_ENTRY = (
    "base_url",
    "weights",
    "revision",
    "context_tokens",
    "image_limit",
    "gpu",
    "gpu_memory_utilization",
    "host_kv_cache_gib",
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


class ModelConfig(Scaled[ScalingConfig]):
    """A model to serve: an entry of the catalogue, and overrides of it."""

    model: ModelName
    """Name, id or alias of the catalogue entry, or path of a YAML file of the same format: relative
    to the config file, or to the working directory where Ray Serve reads the config."""
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
    cpus: float = Field(gt=0, default=1)
    """Ray CPUs of each replica, and of each of its pipeline stages."""
    gpu: Gpu = None
    """Type of the GPUs, or the usable memory of one in GiB, in place of the entry's."""
    gpu_memory_utilization: float | None = Field(gt=0, le=1, default=None)
    """Share of a GPU's memory that vLLM takes, in place of the entry's."""
    host_kv_cache_gib: float | None = Field(ge=0, default=None)
    """Main memory that keeps the KV cache of earlier prompts, in place of the entry's."""
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

    @model_validator(mode="after")
    def _is_within_its_context(self) -> "ModelConfig":
        limit, asked = self.file.context_tokens, self.context_tokens
        own = self.own_file or self.file.kind == "openai" or self.weights is not None
        if not own and asked is not None and asked > limit and not is_stretched(self.entry):
            raise wrong("context_tokens", f"{asked} is above {limit}, all that {self.model} has")
        return self

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
