"""Flags of vLLM that `vllm_args` may not have: the service sets them, or depends on them."""

import re
from collections.abc import Mapping
from typing import Any

from serving.section import wrong

_INSTEAD_OF_FLAG = {
    "allowed-media-domains": "as allowed_image_domains",
    "api-key": "at all: the cluster's own token guards the engines",
    "data-parallel-size": "as replicas of the model in the Serve config file",
    "gpu-memory-utilization": "as gpu_memory_utilization",
    "enable-lora": "as adapters or adapters_folder",
    "kv-cache-dtype": "as kv_cache_dtype",
    "kv-offloading-size": "as host_kv_cache_gib",
    "limit-mm-per-prompt": "as image_limit",
    "lora-modules": "as adapters",
    "max-cpu-loras": "as lora.host_cache_gib",
    "max-lora-rank": "as lora.max_lora_rank",
    "max-loras": "as lora.max_loras",
    "max-model-len": "as max_model_len",
    "model": "as weights",
    "model-impl": "as model_impl",
    "pipeline-parallel-size": "as pipeline_parallel_size",
    "revision": "as revision",
    "served-model-name": "as id and aliases",
    "tensor-parallel-size": "as tensor_parallel_size",
    "tokenizer": "as tokenizer_repository in a model's own file",
    "tokenizer-revision": "as tokenizer_revision in a model's own file",
}
"""What to set in place of each."""


def check_vllm_args(vllm_args: Mapping[str, Any]) -> None:
    """Raises the error of a section for a flag that is set by other means."""
    for flag in vllm_args:
        # vLLM also takes underscores, and a part or the value after the name.
        name = re.split("[.=]", flag.replace("_", "-"))[0]
        if instead := _INSTEAD_OF_FLAG.get(name):
            raise wrong("vllm_args", f"'{flag}' is not set here but {instead}")
