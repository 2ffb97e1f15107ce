"""The C++ compiler with which PyTorch compiles for CPUs."""

import os
import shutil


def do_without() -> None:
    """Has PyTorch run functions uncompiled where no C++ compiler is installed, as in the CPU image.

    vLLM compiles the ranks of log-probabilities even with enforce-eager, at the first request for
    them, and an engine without a compiler would end with that request. To be called before vLLM is
    imported.
    """
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
