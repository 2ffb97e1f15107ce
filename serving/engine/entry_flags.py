"""The flags and the environment of the engine that a catalogue entry describes."""

from typing import Any

from serving.catalogue import CatalogueEntry
from serving.catalogue.vllm_flags import vllm_flags
from serving.weights_claims import weights_location

_ENV = {"VLLM_NO_USAGE_STATS": "1", "VLLM_MAX_STOP_STRINGS": "256"}
"""vLLM allows 4 stop strings as OpenAI does, and Anthropic's clients send more."""


def environment(entry: CatalogueEntry) -> dict[str, str]:
    """Returns the environment variables that must be set before vLLM is imported."""
    return {**_ENV, **entry.env}


def engine_flags(entry: CatalogueEntry) -> dict[str, Any]:
    """Returns the engine's flags of `vllm serve`, except those that spread it over nodes."""
    return {
        "model": weights_location(entry),
        "tensor-parallel-size": entry.tensor_parallel_size,
        "distributed-executor-backend": "mp",
        **vllm_flags(entry),
    }
