"""When PyTorch compiles functions for CPUs."""

import os
import shutil


def avoid(enforce_eager: bool) -> None:
    """Has PyTorch run functions uncompiled where the model is not compiled either, or where no C++
    compiler is installed, as in the CPU image. To be called before vLLM is imported.

    vLLM compiles the ranks of log-probabilities even with enforce-eager, at the first request for
    them. All streams of the engine stand still meanwhile: for 15 s on 2 cores, of the 20 s after
    which an engine counts as hanging. Without a compiler it would end with that request.
    """
    if enforce_eager or shutil.which(os.environ.get("CXX", "g++")) is None:
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
