"""The room for LoRA adapters in a model's engines, and what it takes of their memory."""

from typing import Literal

from pydantic import Field

from serving.catalogue.memory import GIB, Network
from serving.section import Section

MaxLoraRank = Literal[8, 16, 32, 64, 128, 256, 320, 512]
"""Values of vLLM's `--max-lora-rank`."""

_BF16 = 2
_SPLIT_BY_INPUTS = ("self_attn.o_proj", "mlp.down_proj")
"""Layers that tensor parallelism splits by their inputs; it splits the others by their outputs."""
_UNBOUNDED = 10_000
"""vLLM's bound on adapters in the host's memory, which it never reaches: the engine keeps
`host_cache_gib` itself, as vLLM would drop an adapter whose files it needs again."""


class Lora(Section):
    """The room for LoRA adapters in each replica of a model."""

    max_loras: int = Field(ge=1, le=256, default=8)
    """Adapters that run at the same time. Requests for further ones wait in the router."""
    max_lora_rank: MaxLoraRank = 16
    """The highest rank of an adapter; all of them take the memory of that rank on the GPU."""
    host_cache_gib: float = Field(gt=0, default=4)
    """Main memory for loaded adapters, in each process of a replica that has a GPU."""

    def vllm_flags(self) -> dict[str, int | bool]:
        return {
            "enable-lora": True,
            "max-loras": self.max_loras,
            "max-lora-rank": self.max_lora_rank,
            "max-cpu-loras": _UNBOUNDED,
        }

    def bytes_per_layer(self, network: Network, tensor_parallel_size: int) -> float:
        """Returns the memory that the room takes on each GPU for a decoder layer. Of each module
        one matrix is split over the GPUs as its layer is, and the other is whole on each."""
        elements = 0.0
        for name, (outputs, inputs) in module_shapes(network).items():
            if name in _SPLIT_BY_INPUTS:
                elements += inputs / tensor_parallel_size + outputs
            else:
                elements += inputs + outputs / tensor_parallel_size
        return self.max_loras * self.max_lora_rank * elements * _BF16

    def running_gib(self, network: Network) -> float:
        """Returns the main memory of the adapters that may run at the same time."""
        return self.max_loras * adapter_bytes(network, self.max_lora_rank) / GIB


def module_shapes(network: Network) -> dict[str, tuple[int, int]]:
    """Returns the (outputs, inputs) of each linear layer of a decoder layer, by its name in Hugging
    Face's format."""
    hidden, ffn = network.hidden_size, network.ffn_size
    queries, keys = network.heads * network.head_dim, network.kv_heads * network.head_dim
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (ffn, hidden),
        "mlp.up_proj": (ffn, hidden),
        "mlp.down_proj": (hidden, ffn),
    }


def adapter_bytes(network: Network, rank: int) -> int:
    """Returns the bytes of an adapter of all linear layers in bf16: A has rank x inputs, B outputs
    x rank."""
    sizes = sum(outputs + inputs for outputs, inputs in module_shapes(network).values())
    return network.layers * sizes * rank * _BF16
