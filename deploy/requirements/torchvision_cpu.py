"""Lets torchvision's CUDA build import beside torch's CPU build.

The general package index has no CPU build of torchvision. The CUDA build's compiled
operators do not load without CUDA, and its Python half then fails on the two whose
signatures it expects to find. Declaring those two is enough for everything that vLLM
imports. `setup.sh` puts this file and a `.pth` line that imports it into the virtual
environment, so that it also holds in the processes that vLLM starts.
"""

import sys
from importlib.machinery import ModuleSpec


class DeclareOperators:
    """Declares torchvision's `nms` and `qnms` just before torchvision is first imported."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            declare_operators()
        return None


def declare_operators() -> None:
    from importlib.metadata import version

    import torch

    # A CPU build from PyTorch's own index brings its operators itself.
    if version("torchvision").endswith("+cpu"):
        return
    for operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{operator}",
            "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        )


sys.meta_path.insert(0, DeclareOperators())
