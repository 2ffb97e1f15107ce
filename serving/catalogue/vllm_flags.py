"""Converts an entry to flags of `vllm serve`."""

from typing import Any

from serving.catalogue.entry import CatalogueEntry


def vllm_flags(entry: CatalogueEntry) -> dict[str, Any]:
    """All flags of the entry except `--model` and parallelism, which depend on the deployment."""
    flags: dict[str, Any] = {
        "max-model-len": entry.context_tokens,
        "override-generation-config": entry.sampling.defaults(),
    }
    if entry.revision:
        flags["revision"] = entry.revision
    if entry.tokenizer_repository:
        flags["tokenizer"] = entry.tokenizer_repository
        # Without it vLLM looks for the weights' commit in the tokenizer's repository.
        flags["tokenizer-revision"] = entry.tokenizer_revision or "main"
    # Text models reject the flag; one with a vision encoder would reserve memory without it.
    if entry.image_limit or (entry.network and entry.network.vision):
        flags["limit-mm-per-prompt"] = {"image": entry.image_limit}
    if entry.allowed_image_domains:
        flags["allowed-media-domains"] = list(entry.allowed_image_domains)
    if entry.kv_cache_dtype != "auto":
        flags["kv-cache-dtype"] = entry.kv_cache_dtype
    if entry.host_kv_cache_gib:
        flags["kv-offloading-size"] = entry.host_kv_cache_gib
    if entry.gpu_memory_utilization:
        flags["gpu-memory-utilization"] = entry.gpu_memory_utilization
    if entry.model_impl != "auto":
        flags["model-impl"] = entry.model_impl
    if entry.lora is not None:
        flags |= entry.lora.vllm_flags()
    flags |= entry.vllm_args
    if entry.model_impl == "transformers":
        # Transformers knows no Mistral format. "auto" would prefer consolidated files to its own.
        flags |= {"config-format": "hf", "load-format": "hf"}
    return flags
