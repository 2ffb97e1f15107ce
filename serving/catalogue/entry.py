"""A model of the catalogue, and how it is served."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from serving.catalogue.gpus import GPUS, efficiency, usable_gib
from serving.catalogue.loop_guard import LoopGuard
from serving.catalogue.lora import Lora
from serving.catalogue.memory import (
    GIB,
    VLLM_GPU_MEMORY_UTILIZATION,
    KvCacheDtype,
    MemorySum,
    Network,
    WeightsDtype,
    kv_bytes_per_token,
    memory_sum,
)
from serving.catalogue.reserved_flags import check_vllm_args
from serving.catalogue.speed import Speed, speed_by_formula
from serving.section import Section, explain, wrong
from serving.tiny.spec import PRESETS

_EMBEDDED = "embedded"
_FIRST_PRESET = "3.2"

ModelImpl = Literal["auto", "vllm", "transformers"]

MAX_MODEL_LEN = AliasChoices("context_tokens", "max_model_len")
"""The names of the context length in files: ours, and vLLM's."""

_OF_OUR_ENGINES = (
    *("weights", "revision", "network", "weights_dtype", "kv_cache_dtype", "model_impl"),
    *("accelerator", "gpu", "gpu_memory_utilization", "host_memory_gib", "loop_guard"),
    "host_kv_cache_gib",
    *("tensor_parallel_size", "pipeline_parallel_size", "vllm_args", "env", "lora"),
    *("tokenizer_repository", "tokenizer_revision", "allowed_image_domains"),
)
"""Fields without effect on a model of kind openai."""

_HOST_PATTERN = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*", re.ASCII)


class CatalogueError(ValueError):
    """The description of a model cannot be used. The message names the field and what is allowed,
    and the file if the mistake is in a file."""


class Sampling(Section):
    """Defaults for request fields that the client does not set."""

    temperature: float = Field(ge=0, le=2)
    top_p: float | None = Field(gt=0, le=1, default=None)
    max_tokens: int | None = Field(ge=1, default=None)
    """Default of `max_tokens`. It is not given to vLLM, whose `max_new_tokens` would cap what the
    client asks for."""

    def defaults(self) -> dict[str, float]:
        """Defaults of the request fields that a server may set without harm to its client."""
        return self.model_dump(include={"temperature", "top_p"}, exclude_none=True)


def check_gpu(gpu: Any) -> Any:
    """Raises ValueError for a GPU whose memory is unknown."""
    if isinstance(gpu, str) and gpu not in GPUS:
        raise ValueError(
            f"unknown GPU type '{gpu}'; known are {', '.join(GPUS)}, and of any other the "
            "usable memory in GiB"
        )
    if isinstance(gpu, int | float) and not 0 < gpu < math.inf:
        raise ValueError(f"the usable memory of a GPU in GiB is a number above 0 (got {gpu})")
    return gpu


Gpu = Annotated[str | float | None, BeforeValidator(check_gpu)]
"""A GPU's type, or its usable memory in GiB."""


class CatalogueEntry(Section):
    """A model in one of its variants, and how it is served."""

    id: str = Field(min_length=1)
    """Id of the Hugging Face repository, which the model cards' clients send."""
    aliases: tuple[str, ...] = ()
    kind: Literal["vllm", "openai"] = "vllm"
    """`vllm`: served by our engines. `openai`: served by an OpenAI server that runs elsewhere."""
    base_url: str | None = None
    """Kind openai: the URL of that server, such as http://ollama:11434/v1."""
    upstream_model: str | None = None
    """Kind openai: the model's name on that server, if it is not the id."""
    api_key_env: str | None = None
    """Kind openai: the routers' environment variable that has the server's key, if it needs one."""

    weights: str = ""
    """A Hugging Face repository id, a folder, or "embedded" for the tiny model that this package
    trains itself, "embedded:2501" for another preset of it."""
    revision: str | None = None
    """Commit of the weights' repository; the newest of its main branch if not set."""
    tokenizer_repository: str | None = None
    """Repository or folder of the tokenizer's files, if they are not with the weights."""
    tokenizer_revision: str | None = None
    tokenizer: Literal["v7", "v11", "v13"]
    """The tokenizer's version, as in its tekken.json."""

    sampling: Sampling
    context_tokens: int = Field(ge=1, validation_alias=MAX_MODEL_LEN)
    """Longest prompt and answer of a request together."""
    image_limit: int = Field(ge=0, default=0)
    """Number of images that a request may have; 0: text only."""
    allowed_image_domains: tuple[str, ...] = ()
    """Hosts that images are fetched from, as "cdn.example.com" or, for its subdomains,
    "*.example.com"; any public one if none is given."""
    system_prompt: str | None = None
    """Template of the default system prompt, with {name}, {today} and {yesterday}; other braces
    stand for themselves. If not set, the SYSTEM_PROMPT.txt beside the weights is used."""
    reasoning: bool = False
    """The model writes its thoughts between <think> and </think>."""
    loop_guard: LoopGuard | None = LoopGuard()

    accelerator: Literal["cpu", "gpu"] = "gpu"
    gpu: Gpu = None
    """Type of the GPUs, or the usable memory of one in GiB, for the memory calculation."""
    tensor_parallel_size: int = Field(ge=1, default=1)
    pipeline_parallel_size: int = Field(ge=1, default=1)
    gpu_memory_utilization: float | None = Field(gt=0, le=1, default=None)
    """Share of a GPU's memory that vLLM takes; vLLM's own default if not set."""
    host_memory_gib: float = Field(gt=0, default=16)
    """Main memory of a replica with all its processes."""
    host_kv_cache_gib: float = Field(ge=0, default=0)
    """Further main memory of a replica, which keeps the KV cache of earlier prompts when its GPUs
    have no room for it any more: vLLM's `--kv-offloading-size`, of all GPUs together. It is taken
    from /dev/shm."""

    network: Network | None = None
    """The shape of the network, for the memory calculation, which is skipped without it."""
    weights_dtype: WeightsDtype = "bf16"
    kv_cache_dtype: KvCacheDtype = "auto"

    lora: Lora | None = None
    """The room for LoRA adapters in each replica; None without adapters."""

    model_impl: ModelImpl = "auto"
    """Implementation of the network that vLLM runs; Transformers' reads weights in Hugging Face's
    format."""
    vllm_args: dict[str, Any] = Field(default_factory=dict)
    """Further flags of `vllm serve`, without their dashes."""
    env: dict[str, str] = Field(default_factory=dict)

    speed: Speed | None = None
    """Measured speed, for all variants, where the formula does not hold."""

    variant: str | None = None
    """Name of this variant."""
    verified: bool = False
    """Whether this project has run the variant on the hardware that it is for."""

    @field_validator("allowed_image_domains")
    @classmethod
    def _domains_are_hosts(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            if not _HOST_PATTERN.fullmatch(domain):
                raise ValueError(
                    f"'{domain}' is no host; allowed are names such as cdn.example.com, and "
                    "*.example.com for its subdomains; without the setting any public host is"
                )
        return domains

    @model_validator(mode="after")
    def _kind_has_what_it_needs(self) -> "CatalogueEntry":
        if self.kind == "vllm":
            if not self.weights:
                raise wrong("weights", "a model of kind vllm needs a repository id or a folder")
            for field in ("base_url", "upstream_model", "api_key_env"):
                if getattr(self, field) is not None:
                    raise wrong(field, "only a model of kind openai has one")
            return self
        if self.base_url is None or not self.base_url.startswith(("http://", "https://")):
            raise wrong("base_url", "a model of kind openai needs an http:// or https:// URL")
        for field in _OF_OUR_ENGINES:
            if field in self.model_fields_set and getattr(self, field):
                raise wrong(field, "the server at base_url sets it; a model of kind vllm has one")
        return self

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "CatalogueEntry":
        check_vllm_args(self.vllm_args)
        return self

    @model_validator(mode="after")
    def _weights_are_there(self) -> "CatalogueEntry":
        if self.embedded is not None and self.embedded not in PRESETS:
            allowed = ", ".join(f"{_EMBEDDED}:{preset}" for preset in PRESETS)
            raise wrong("weights", f"unknown embedded model '{self.weights}'; there are {allowed}")
        return self

    @model_validator(mode="after")
    def _network_can_do_it(self) -> "CatalogueEntry":
        if self.network is None:
            return self
        if self.network.heads % self.tensor_parallel_size:
            raise wrong(
                "tensor_parallel_size",
                f"{self.tensor_parallel_size} does not divide the network's "
                f"{self.network.heads} attention heads",
            )
        if self.image_limit and self.network.vision is None:
            raise wrong("image_limit", "the network has no vision encoder: 0 is all that it takes")
        return self

    @model_validator(mode="after")
    def _host_can_keep_kv_cache(self) -> "CatalogueEntry":
        if self.host_kv_cache_gib and self.accelerator == "cpu":
            raise wrong("host_kv_cache_gib", "only engines on GPUs have one; a CPU's is all there")
        if self.host_kv_cache_gib and self.pipeline_parallel_size > 1:
            raise wrong("host_kv_cache_gib", "vLLM has it on a single node: leave it out")
        return self

    @property
    def embedded(self) -> str | None:
        """The preset of `serving.tiny` that `weights` names; None for weights from elsewhere."""
        kind, _, preset = self.weights.partition(":")
        return (preset or _FIRST_PRESET) if kind == _EMBEDDED else None

    def on(
        self,
        *,
        gpu: str | float | None = None,
        tensor_parallel_size: int | None = None,
        context_tokens: int | None = None,
    ) -> "CatalogueEntry":
        """The entry on other GPUs or with a shorter context; None keeps a value. Raises
        CatalogueError."""
        asked = {
            "gpu": gpu,
            "tensor_parallel_size": tensor_parallel_size,
            "context_tokens": context_tokens,
        }
        changed = {field: value for field, value in asked.items() if value is not None}
        try:
            return CatalogueEntry.model_validate(self.model_dump(exclude_unset=True) | changed)
        except ValidationError as error:
            mistakes = explain(error, CatalogueEntry)
            lines = (f"{field}: {message}" if field else message for field, message in mistakes)
            raise CatalogueError("\n".join(lines)) from None

    @property
    def hardware(self) -> str:
        """The GPUs of a replica, to print."""
        if self.kind == "openai":
            return str(self.base_url)
        if self.accelerator == "cpu":
            return "none (CPU)"
        gpu = f"{self.gpu:g} GiB" if isinstance(self.gpu, int | float) else self.gpu or "GPU"
        return f"{self.tensor_parallel_size * self.pipeline_parallel_size} x {gpu}"

    @property
    def replica_memory_gib(self) -> float:
        """Main memory of a replica with all its processes, adapters and KV cache."""
        adapters_gib = 0.0 if self.lora is None else self.lora.host_cache_gib
        return (
            self.host_memory_gib + adapters_gib * self.tensor_parallel_size + self.host_kv_cache_gib
        )

    @property
    def host_kv_cache_tokens(self) -> int:
        """Tokens that a replica's main memory keeps; 0 for a model without `network`."""
        if self.network is None:
            return 0
        token_bytes = kv_bytes_per_token(self.network, self.kv_cache_dtype)
        return int(self.host_kv_cache_gib * GIB / token_bytes)

    def memory(self) -> MemorySum | None:
        """The memory of a replica on its GPUs; None for a model without `network` or `gpu`."""
        if self.kind != "vllm" or self.network is None or self.gpu is None:
            return None
        return memory_sum(
            self.network,
            weights_dtype=self.weights_dtype,
            kv_cache_dtype=self.kv_cache_dtype,
            context_tokens=self.context_tokens,
            gpu=self.gpu,
            gpu_gib=usable_gib(self.gpu),
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            utilization=self.gpu_memory_utilization or VLLM_GPU_MEMORY_UTILIZATION,
            adapters_bytes_per_layer=0.0
            if self.lora is None
            else self.lora.bytes_per_layer(self.network, self.tensor_parallel_size),
        )

    def first_speed(self) -> Speed | None:
        """`speed` or, by formula, the speed on its GPUs; None for a model without `network` or a
        GPU of a known type."""
        if self.speed is not None:
            return self.speed
        if self.kind != "vllm" or self.network is None or not isinstance(self.gpu, str):
            return None
        return speed_by_formula(
            self.network,
            weights_dtype=self.weights_dtype,
            kv_cache_dtype=self.kv_cache_dtype,
            gpu=self.gpu,
            tensor_parallel_size=self.tensor_parallel_size,
        )

    def speed_is_measured(self) -> bool:
        """Whether `first_speed` was measured: for the model itself, or by `mistral-serve
        calibrate`."""
        if self.speed is not None:
            return True
        if not isinstance(self.gpu, str):
            return False
        return efficiency(self.gpu, self.weights_dtype, self.tensor_parallel_size).measured
