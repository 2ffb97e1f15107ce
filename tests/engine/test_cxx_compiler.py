"""Engines on CPUs where no C++ compiler is installed."""

import os
import subprocess
import sys
from pathlib import Path

_RANKS = """
from serving.engine import cxx_compiler
cxx_compiler.do_without()
import torch
from vllm.v1.sample.ops.logprobs import batched_count_greater_than
print(batched_count_greater_than(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[2.0]])).item())
"""


def test_log_probabilities_have_ranks_without_a_compiler(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _RANKS], env=environment, capture_output=True, text=True
    )
    assert done.stdout.endswith("2\n"), done.stderr


def test_with_a_compiler_it_is_used(tmp_path: Path) -> None:
    compiler = tmp_path / "g++"
    compiler.touch(0o755)
    code = "import os; from serving.engine import cxx_compiler; cxx_compiler.do_without()"
    code += "; print(os.environ.get('TORCH_COMPILE_DISABLE'))"
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "None\n", done.stderr
