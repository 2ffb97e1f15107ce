"""Calculates the GPU memory of a model. Parameter counts follow from the network's shape, bytes
from the storage format. What vLLM itself takes is an estimate, so the number of KV tokens is
accurate to about a tenth."""

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from serving.section import Section

GIB = 1024**3
KIB = 1024
VLLM_GPU_MEMORY_UTILIZATION = 0.92
"""Default of `--gpu-memory-utilization` in vLLM 0.32."""

WeightsDtype = Literal["bf16", "fp8", "int4"]
"""Storage of the decoder's linear layers; the rest is bf16 in each."""
KvCacheDtype = Literal["auto", "fp8"]
"""Values of vLLM's `--kv-cache-dtype`; auto is bf16."""

_BF16 = 2
_GROUP = 128
_LINEAR_BYTES: dict[WeightsDtype, float] = {
    "bf16": 2,
    "fp8": 1,
    # A bf16 scale and a 4-bit zero for each group.
    "int4": 0.5 + (2 + 0.5) / _GROUP,
}
_KV_BYTES: dict[KvCacheDtype, int] = {"auto": 2, "fp8": 1}
_SMALL_GPU_GIB = 24


class Vision(Section):
    """A Pixtral vision encoder and its projector."""

    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    ffn_size: int = Field(ge=1)
    patch_size: int = Field(ge=1)
    merge_size: int = Field(ge=1)
    """Patches along each side that become one token."""

    def parameters(self, decoder_hidden_size: int) -> int:
        hidden = self.hidden_size
        layer = 4 * hidden**2 + 3 * hidden * self.ffn_size + 2 * hidden
        encoder = 3 * self.patch_size**2 * hidden + hidden + self.layers * layer
        merge = self.merge_size**2 * hidden * hidden
        projector = hidden + merge + hidden * decoder_hidden_size + decoder_hidden_size**2
        return encoder + projector


class Network(Section):
    """The shape of a Mistral decoder, as in its params.json."""

    hidden_size: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    ffn_size: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    vision: Vision | None = None

    @property
    def linear_parameters(self) -> int:
        """Parameters of one layer that quantisation applies to."""
        attention = self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads)
        return attention + 3 * self.hidden_size * self.ffn_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding; the head has as many."""
        return self.vocab_size * self.hidden_size

    @property
    def vision_parameters(self) -> int:
        return self.vision.parameters(self.hidden_size) if self.vision else 0

    @property
    def parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.hidden_size
        layers = self.layers * self.linear_parameters
        return layers + norms + 2 * self.embedding_parameters + self.vision_parameters


def layer_bytes(network: Network, dtype: WeightsDtype) -> float:
    return network.linear_parameters * _LINEAR_BYTES[dtype] + 2 * network.hidden_size * _BF16


def weights_bytes(network: Network, dtype: WeightsDtype) -> float:
    """Bytes of the whole model's weights."""
    rest = 2 * network.embedding_parameters + network.vision_parameters + network.hidden_size
    return network.layers * layer_bytes(network, dtype) + rest * _BF16


def kv_bytes_per_token(network: Network, dtype: KvCacheDtype) -> int:
    """Bytes of one token in all layers, on all GPUs together."""
    return 2 * network.layers * network.kv_heads * network.head_dim * _KV_BYTES[dtype]


def overhead_gib(gpu_gib: float, gpus: int) -> float:
    """Memory of each GPU that vLLM takes besides weights and KV cache: activations, CUDA graphs,
    the CUDA context. These are estimates; a small GPU gets smaller batches."""
    if gpu_gib <= _SMALL_GPU_GIB:
        return 1.2
    return 2.5 if gpus == 1 else 2.0


@dataclass(frozen=True, slots=True)
class MemorySum:
    """The memory of one replica. Values per GPU are those of the stage that holds the fewest
    tokens."""

    gpu: str | float
    gpus: int
    gpu_gib: float
    utilization: float
    context_tokens: int
    weights_dtype: WeightsDtype
    weights_gib: float
    """KV cache tokens on all GPUs together."""
    weights_gib_per_gpu: float
    overhead_gib_per_gpu: float
    kv_gib_per_gpu: float
    """Memory that is left for the KV cache; negative if the weights alone do not fit."""
    kv_bytes_per_token_per_gpu: float
    adapters_gib_per_gpu: float = 0.0
    """The room for LoRA adapters."""

    @property
    def kv_tokens(self) -> int:
        return max(0, int(self.kv_gib_per_gpu * GIB / self.kv_bytes_per_token_per_gpu))

    @property
    def fits(self) -> bool:
        return self.kv_tokens >= self.context_tokens

    @property
    def misfit(self) -> str | None:
        """The reason why the model does not fit; None if it does."""
        if self.kv_gib_per_gpu < 0:
            return (
                f"{self.weights_gib:.1f} GiB of weights do not fit into {self.gpus} x "
                f"{self.gpu_gib:.1f} GiB"
            )
        if not self.fits:
            return (
                f"a context of {self.context_tokens:,} does not fit: the KV cache holds "
                f"{self.kv_tokens:,} tokens"
            )
        return None

    @property
    def full_contexts(self) -> float:
        """Number of requests of the greatest length that can run at once."""
        return self.kv_tokens / self.context_tokens

    def lines(self) -> list[str]:
        """The calculation as text."""
        name = self.gpu if isinstance(self.gpu, str) else "GPU"
        share = f"{self.gpus} GPU" + ("s" if self.gpus > 1 else "")
        kv_kib = self.kv_bytes_per_token_per_gpu / KIB
        relation = "holds" if self.fits else "does not hold"
        adapters = f"- {self.adapters_gib_per_gpu:6.1f} GiB  LoRA adapters"
        return [
            f"  {self.gpu_gib * self.utilization:6.1f} GiB  of each {name}: "
            f"{self.gpu_gib:.1f} GiB usable x {self.utilization:.2f}",
            f"- {self.weights_gib_per_gpu:6.1f} GiB  weights: "
            f"{self.weights_gib:.1f} GiB in {self.weights_dtype} on {share}",
            f"- {self.overhead_gib_per_gpu:6.1f} GiB  activations, CUDA graphs and context "
            "(estimate)",
            *([adapters] if self.adapters_gib_per_gpu else []),
            f"= {self.kv_gib_per_gpu:6.1f} GiB  for the KV cache: {self.kv_tokens:,} tokens of "
            f"{kv_kib:g} KiB, which {relation} a context of {self.context_tokens:,}",
        ]


def memory_sum(
    network: Network,
    *,
    weights_dtype: WeightsDtype,
    kv_cache_dtype: KvCacheDtype,
    context_tokens: int,
    gpu: str | float,
    gpu_gib: float,
    tensor_parallel_size: int,
    pipeline_parallel_size: int,
    utilization: float = VLLM_GPU_MEMORY_UTILIZATION,
    adapters_bytes_per_layer: float = 0.0,
) -> MemorySum:
    """Calculates the memory of one replica. `gpu_gib` is the usable memory of one `gpu`, and
    `adapters_bytes_per_layer` what the room for adapters takes of it for each layer. Raises
    ValueError for a stage without layers."""
    if pipeline_parallel_size > network.layers:
        raise ValueError(f"{pipeline_parallel_size} pipeline stages for {network.layers} layers")
    gpus = tensor_parallel_size * pipeline_parallel_size
    overhead = overhead_gib(gpu_gib, gpus)
    # With more GPUs than KV heads, vLLM repeats the heads.
    kv_heads_per_gpu = math.ceil(network.kv_heads / tensor_parallel_size)
    kv_bytes_per_layer = 2 * kv_heads_per_gpu * network.head_dim * _KV_BYTES[kv_cache_dtype]

    def stage(rank: int, layers: int) -> MemorySum:
        ends = (rank == 0) + (rank == pipeline_parallel_size - 1)
        weights = layers * layer_bytes(network, weights_dtype)
        weights += ends * network.embedding_parameters * _BF16
        weights += network.vision_parameters * _BF16 if rank == 0 else 0
        weights_gib_per_gpu = weights / tensor_parallel_size / GIB
        adapters_gib = layers * adapters_bytes_per_layer / GIB
        return MemorySum(
            gpu=gpu,
            gpus=gpus,
            gpu_gib=gpu_gib,
            utilization=utilization,
            context_tokens=context_tokens,
            weights_dtype=weights_dtype,
            weights_gib=weights_bytes(network, weights_dtype) / GIB,
            weights_gib_per_gpu=weights_gib_per_gpu,
            overhead_gib_per_gpu=overhead,
            kv_gib_per_gpu=gpu_gib * utilization - weights_gib_per_gpu - overhead - adapters_gib,
            kv_bytes_per_token_per_gpu=layers * kv_bytes_per_layer,
            adapters_gib_per_gpu=adapters_gib,
        )

    stages = enumerate(_layers_of_stages(network.layers, pipeline_parallel_size))
    return min((stage(rank, layers) for rank, layers in stages), key=lambda s: s.kv_tokens)


def _layers_of_stages(layers: int, stages: int) -> list[int]:
    """Number of layers of each stage, divided as vLLM does: the remainder goes to the last stages
    but one."""
    each, left = divmod(layers, stages)
    return [each + (stages - 1 - left <= rank < stages - 1) for rank in range(stages)]
