"""Fails where an image lacks what an engine needs, as far as no GPU is needed: the last step of its
build, as vLLM itself only warns where its kernels do not load.

    check_image.py gpu|cpu
"""

import importlib
import pkgutil
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import vllm
from vllm.platforms.cpu import CpuPlatform
from vllm.tokenizers import get_tokenizer

import serving
from serving.tiny import PRESETS
from serving.tiny.tokenizer import write_tokenizer

_MODELS = ("mistral", "pixtral")
_DRIVER = "libcuda.so.1"
"""Comes from the GPU's node."""


def load_cpu_kernels() -> None:
    """Loads the kernels for this machine's CPU. Raises AttributeError without them."""
    CpuPlatform.import_kernels()
    torch.ops._C.silu_and_mul  # noqa: B018


def load_extension_modules() -> None:
    """Loads all of vLLM's extension modules but those that want a driver. Raises ImportError."""
    if shutil.which("g++") is None:
        raise ImportError("g++ is not installed: Triton and FlashInfer compile with it")
    folder = Path(vllm.__file__).parent
    for path in sorted(folder.rglob("*.abi3.so")):
        name = ".".join(path.relative_to(folder.parent).parts).removesuffix(".abi3.so")
        try:
            importlib.import_module(name)
        except ImportError as error:
            if _DRIVER not in str(error):
                raise


def import_all(accelerator: str) -> None:
    """Imports this package and vLLM's classes of the models. Raises ImportError."""
    for module in pkgutil.walk_packages(serving.__path__, "serving."):
        if not module.name.endswith("__main__") and (
            accelerator == "cpu" or module.name != "serving.engine.vllm.worker"
        ):
            importlib.import_module(module.name)
    for name in _MODELS:
        importlib.import_module(f"vllm.model_executor.models.{name}")


def main(accelerator: str) -> None:
    load_cpu_kernels() if accelerator == "cpu" else load_extension_modules()
    import_all(accelerator)
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(PRESETS["3.2"], Path(folder))
        get_tokenizer(folder, tokenizer_mode="mistral").encode("Bonjour")


if __name__ == "__main__":
    main(sys.argv[1])
