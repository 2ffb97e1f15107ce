"""Keeps the kernels that an engine compiles at its start, for the next start."""

import hashlib
import os
from importlib.metadata import distributions
from pathlib import Path

ROOT = "MISTRAL_SERVE_KERNELS"
"""The variable that names the folder for them, which engines of any image and GPU may share."""

_FOLDERS = {
    "VLLM_CACHE_ROOT": "vllm",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "FLASHINFER_WORKSPACE_BASE": "flashinfer",
}


def use(gpu: str) -> None:
    """Has vLLM, Inductor, Triton and FlashInfer keep what they compile in a folder for this image's
    packages and this type of GPU. Without `ROOT`, or where it cannot be written, they use their
    own. To be called before vLLM is imported.
    """
    root = os.environ.get(ROOT)
    if not root or not os.access(root, os.W_OK):
        return
    packages = sorted(f"{each.name}=={each.version}" for each in distributions())
    image = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    for variable, name in _FOLDERS.items():
        os.environ[variable] = str(Path(root) / f"{image}-{gpu}" / name)
