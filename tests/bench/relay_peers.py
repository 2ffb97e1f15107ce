"""Other programs that relay requests to engines, to be measured beside ours.

Each is installed when it is first asked for, in the version pinned here and into a virtual
environment of its own in the user's cache folder, so that none comes near the project's.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.relay_process import HOST, MODEL, Server, dies_with_parent

_START_S = 120
_INSTALL_S = 600
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "NO_PROXY": HOST,
    # All words of the stand-in's answers are equal.
    "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",
}


class UnavailableError(Exception):
    """The program cannot be run on this machine."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A program and how it is started: with its defaults, but for the policy, and without a log
    line for each request."""

    name: str
    requirement: str
    program: str
    options: str
    """`{worker}` is the engine's URL, `{config}` a file with LiteLLM's configuration."""


_RUST = "--worker-urls {worker} --log-level error --prometheus-port {other_port} --policy "
_SMG = "smg==1.13.0"
_VLLM_ROUTER = "vllm-router==0.1.17"

PEERS = (
    Peer("smg round_robin", _SMG, "smg launch", _RUST + "round_robin"),
    Peer("smg cache_aware", _SMG, "smg launch", _RUST + "cache_aware"),
    Peer("vllm-router round_robin", _VLLM_ROUTER, "vllm-router", _RUST + "round_robin"),
    Peer("vllm-router cache_aware", _VLLM_ROUTER, "vllm-router", _RUST + "cache_aware"),
    Peer("LiteLLM", "litellm[proxy]==1.106.2", "litellm", "--config {config} --telemetry False"),
)


@contextlib.contextmanager
def peer(one: Peer, upstream: Server) -> Iterator[Server]:
    """Runs the program in front of the engine `upstream`. Raises UnavailableError."""
    with tempfile.TemporaryDirectory() as folder:
        worker = f"http://{HOST}:{upstream.port}"
        config = Path(folder, "litellm.yaml")
        parameters = {"model": f"openai/{MODEL}", "api_base": f"{worker}/v1", "api_key": "EMPTY"}
        models = [{"model_name": MODEL, "litellm_params": parameters}]
        settings = {"dangerously_permit_weak_or_unset_master_key": True}
        config.write_text(json.dumps({"model_list": models, "general_settings": settings}))
        port, other_port = free_ports(2)
        options = one.options.format(worker=worker, config=config, other_port=other_port)
        program, *first = one.program.split()
        command = [str(installed(one.requirement) / "bin" / program), *first]
        log = Path(folder, "log")
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, "--host", HOST, "--port", str(port), *options.split()],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,
                preexec_fn=dies_with_parent,
            ) as process,
        ):
            try:
                wait_until_it_answers(process, port, log)
                yield Server(port, process.pid)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def installed(requirement: str) -> Path:
    """The virtual environment of that package, made if there is none."""
    folder = Path.home() / ".cache/mistral-serve/relay-peers" / requirement
    if folder.is_dir():
        return folder
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        raise UnavailableError("uv is not beside the Python that runs this")
    # An environment contains its own path: it is made in place, and its last file completes it.
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in (
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", str(folder / "bin" / "python"), requirement],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=_INSTALL_S)
            except subprocess.TimeoutExpired:
                raise UnavailableError(f"its installation took over {_INSTALL_S} s") from None
            except subprocess.CalledProcessError as error:
                raise UnavailableError(last_line(error.stderr)) from None
        undo.pop_all()
    return folder


def wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Runs a command of the installation. Raises UnavailableError."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    request = urllib.request.Request(
        f"http://{HOST}:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer EMPTY"},
    )
    why = "nothing listens"
    limit_s = time.monotonic() + _START_S
    while time.monotonic() < limit_s:
        if process.poll() is not None:
            raise UnavailableError(f"it ended: {last_line(log.read_bytes())}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                answer.read()
            return
        except urllib.error.HTTPError as error:
            why = f"status {error.code}"
        except OSError:
            pass
        time.sleep(0.2)
    raise UnavailableError(f"no answer within {_START_S} s: {why}")


def last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(number)]
        for sock in bound:
            sock.bind((HOST, 0))
        return [sock.getsockname()[1] for sock in bound]
