"""The servers of the front-end benchmark, each in a process group of its own.

`python -m tests.bench.frontend_process FLAGS PORT TOKEN` is the program of ours: what an Engine
replica starts, without Ray around it.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import uvloop

from tests.bench.relay_process import HOST, MODEL, Server
from tests.support.ports import free_port

TOKEN = "bench"
CARD_FLAGS: dict[str, Any] = {
    "tokenizer-mode": "mistral",
    "config-format": "mistral",
    "load-format": "mistral",
    "limit-mm-per-prompt": {"image": 10},
}
"""The flags of the model card's "Serve" section, less those that parse tools."""
TOOL_FLAGS: dict[str, Any] = {"tool-call-parser": "mistral", "enable-auto-tool-choice": True}
SMALL_FLAGS: dict[str, Any] = {
    "max-model-len": 8192,
    "enforce-eager": True,
    "kv-cache-memory-bytes": 64 << 20,
    # As on one GPU, and as engines on a CPU have it: the worker in the process of the scheduler.
    "distributed-executor-backend": "vllm.v1.executor.uniproc_executor.UniProcExecutor",
    "override-generation-config": {"temperature": 0.0},
}
"""Flags for a small CPU, the same for all servers."""

_ROOT = Path(__file__).parents[2]
_START_S = 240
_STOP_S = 10
_PR_SET_PDEATHSIG = 1
_ENV = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}


@contextlib.contextmanager
def plain(flags: Mapping[str, Any], log: Path) -> Iterator[Server]:
    """vLLM's own API server. It listens as soon as it has started: see `wait_until_ready`."""
    argv = [
        f"--{name}" if value is True else f"--{name}={_text(value)}"
        for name, value in flags.items()
    ]
    port = free_port()
    argv += ["--served-model-name", MODEL, "--host", HOST, "--port", str(port)]
    with _running(port, log, "vllm.entrypoints.openai.api_server", *argv) as server:
        yield server


@contextlib.contextmanager
def ours(flags: Mapping[str, Any], log: Path, token: str = TOKEN) -> Iterator[Server]:
    """An engine's vLLM with its application and access middleware, which wants that token."""
    port = free_port()
    with _running(
        port, log, "tests.bench.frontend_process", json.dumps(flags), str(port), token
    ) as server:
        yield server


def client(server: Server, token: str = TOKEN) -> httpx.Client:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return httpx.Client(base_url=f"http://{HOST}:{server.port}", headers=headers, timeout=120)


def wait_until_ready(servers: dict[str, Server], token: str = TOKEN) -> None:
    """Returns when all are ready. Raises RuntimeError if one has ended or takes too long."""
    end_s = time.monotonic() + _START_S
    for name, server in servers.items():
        with client(server, token) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if http.get("/health").status_code == 200:
                        break
                if not Path(f"/proc/{server.pid}").exists() or time.monotonic() > end_s:
                    raise RuntimeError(f"{name} did not start")
                time.sleep(0.5)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@contextlib.contextmanager
def _running(port: int, log: Path, module: str, *args: str) -> Iterator[Server]:
    libc = ctypes.CDLL(None)
    with (
        tempfile.TemporaryDirectory(prefix="vllm-") as sockets,  # vLLM leaves them behind
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", module, *args],
            cwd=_ROOT,
            env={**os.environ, **_ENV, "TMPDIR": sockets},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        ) as process,
    ):
        try:
            yield Server(port, process.pid)
        finally:
            process.terminate()
            _wait_for_group(process)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for_group(leader: "subprocess.Popen[bytes]") -> None:
    """Waits for all processes of the group: the last one removes the shared memory of the
    others."""
    end_s = time.monotonic() + _STOP_S
    while time.monotonic() < end_s:
        leader.poll()
        try:
            os.killpg(leader.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)


async def _serve(flags: dict[str, Any], port: int, token: str) -> None:
    # imported here because the load generator need not load vLLM
    from serving.catalogue import LoopGuard
    from serving.engine.access import AccessMiddleware
    from serving.engine.vllm.server import VllmServer
    from serving.mistral import ModelRules

    rules = ModelRules(MODEL, "v11", flags["max-model-len"], image_limit=10)
    server = VllmServer(flags, [MODEL], rules, LoopGuard())
    app = await server.start()
    sock = socket.create_server((HOST, port), backlog=2048)
    await server.listen(AccessMiddleware(app, token, lambda: server.death), sock)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.close()


if __name__ == "__main__":
    uvloop.run(_serve(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
