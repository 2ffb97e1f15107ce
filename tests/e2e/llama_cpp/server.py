"""Runs llama.cpp's server on the embedded 2501."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx

from serving.tiny import tiny_model_folder
from tests.support.waiting import wait_for

WRITER = Path(__file__).with_name("write_gguf.py")
HOST = "127.0.0.1"


def write_model(python: Path, file: Path, precision: str) -> Path:
    """Writes the embedded 2501 in llama.cpp's format, with f16 or q8_0 weights."""
    folder = tiny_model_folder("2501")
    subprocess.run([python, WRITER, folder, file, precision], check=True)
    return file


@contextlib.contextmanager
def serving(
    python: Path, model: Path, port: int, log: Path, *, context_tokens: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Serves a model on this port while the context is open."""
    flags = {
        "model": model,
        "model_alias": "tiny.gguf",
        "host": HOST,
        "port": port,
        "n_ctx": context_tokens,
        "n_threads": 1,
        "logits_all": False,  # else it holds the logits of a whole context
        "interrupt_requests": False,  # else a request ends the stream before it
    }
    argv = [f"--{name}={value}" for name, value in flags.items()]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [python, "-m", "llama_cpp.server", *argv], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: is_up(process, port), 60, "llama.cpp's server answers")
        yield process
    finally:
        process.kill()
        process.wait()


def is_up(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "llama.cpp's server ended"
    try:
        return httpx.get(f"http://{HOST}:{port}/v1/models", timeout=60).status_code == 200
    except httpx.HTTPError:
        return False
