"""The environment with llama.cpp, `.llama-cpp` in this checkout. It is made of its lock once, which
compiles llama.cpp: minutes on a few cores."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOCK = ROOT / "deploy/requirements/llama_cpp.txt"
FOLDER = ROOT / ".llama-cpp"
UV = Path(sys.executable).with_name("uv")

_FLAGS = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF"}
"""Leaves out images, which take long to compile, and instructions that few CPUs have: with AMX its
server ends at the first request to a model of q8_0."""


class NotBuiltError(Exception):
    """The environment cannot be made here; the message says why."""


def python() -> Path:
    """The environment's Python. Makes the environment where it is not of this lock and these flags.
    Raises NotBuiltError."""
    executable, stamp = FOLDER / "bin/python", FOLDER / "made.sha256"
    digest = hashlib.sha256(LOCK.read_bytes() + repr(_FLAGS).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return executable
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", FOLDER)
    _run(UV, "pip", "install", "--python", executable, "--require-hashes", "--requirement", LOCK)
    stamp.write_text(digest)
    return executable


def _run(*command: str | Path) -> None:
    try:
        subprocess.run(command, env=os.environ | _FLAGS, check=True, capture_output=True, text=True)
    except OSError as error:
        raise NotBuiltError(f"{command[0]}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise NotBuiltError(error.stderr.strip()[-500:]) from None
