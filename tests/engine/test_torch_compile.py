"""Engines on CPUs compile nothing while they answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_RANKS = """
from serving.engine import torch_compile
torch_compile.avoid(enforce_eager=%s)
import torch
from vllm.v1.sample.ops.logprobs import batched_count_greater_than
print(batched_count_greater_than(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[2.0]])).item())
"""
_PRINTED = """
import os
from serving.engine import torch_compile
torch_compile.avoid(enforce_eager=%s)
print(os.environ.get('TORCH_COMPILE_DISABLE'))
"""


def run(code: str, path: Path) -> str:
    """Runs code whose only programs are those of the folder `path`, and returns what it prints."""
    set_here = ("CXX", "TORCH_COMPILE_DISABLE")  # by a model in this process
    environment = {name: value for name, value in os.environ.items() if name not in set_here}
    environment |= {"PATH": str(path), "TORCHINDUCTOR_CACHE_DIR": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    return done.stdout or done.stderr


def with_a_compiler_that_fails(folder: Path) -> Path:
    (folder / "g++").touch(0o755)
    return folder


def test_log_probabilities_have_ranks_without_a_compiler(tmp_path: Path) -> None:
    assert run(_RANKS % False, tmp_path).endswith("2\n")


@pytest.mark.full
def test_with_enforce_eager_none_is_asked(tmp_path: Path) -> None:
    assert run(_RANKS % True, with_a_compiler_that_fails(tmp_path)).endswith("2\n")


@pytest.mark.parametrize(
    ("enforce_eager", "has_compiler", "disabled"),
    [(False, True, "None"), (False, False, "1"), (True, True, "1")],
)
def test_a_compiler_is_used_where_there_is_one_and_the_model_is_compiled(
    tmp_path: Path, enforce_eager: bool, has_compiler: bool, disabled: str
) -> None:
    path = with_a_compiler_that_fails(tmp_path) if has_compiler else tmp_path
    assert run(_PRINTED % enforce_eager, path) == f"{disabled}\n"
