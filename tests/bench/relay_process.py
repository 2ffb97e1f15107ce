"""The processes that the relay benchmark measures: the stand-in engine, the router, a bare relay.

Run as `python -m tests.bench.relay_process router|bare ENGINE_PORT` this module is one of the
relays; it prints its port and pid as a line of JSON once it listens.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvloop

HOST = "127.0.0.1"
MODEL = "bench"

_ROOT = Path(__file__).parents[2]
_START_S = 60
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on `HOST`, and its children."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU time of their live threads so far, in user and kernel mode."""
        cpu_s = self.own_cpu_s()
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                cpu_s += Server(self.port, int(child)).cpu_s()
        return cpu_s

    def own_cpu_s(self) -> float:
        """CPU time of the live threads of this process, without its children's."""
        threads = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((t / "schedstat").read_text().split()[0]) for t in threads) / 1e9


@contextlib.contextmanager
def engine(interval_s: float) -> Iterator[Server]:
    """The stand-in engine, which pauses `interval_s` between the chunks of a stream."""
    options = ["--interval-s", str(interval_s), "--model", MODEL]
    with running("tests.support.stand_in_engine", *options) as server:
        yield server


@contextlib.contextmanager
def relay(kind: str, upstream: Server, checkout: Path = _ROOT) -> Iterator[Server]:
    """The `router` or the `bare` relay of the code in `checkout`, in front of `upstream`."""
    with running("tests.bench.relay_process", kind, str(upstream.port), cwd=checkout) as server:
        yield server


def dies_with_parent() -> None:
    """Settings for a process that was just forked."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def running(module: str, *args: str, cwd: Path = _ROOT) -> Iterator[Server]:
    """Runs a module that prints its port and pid; killed on leaving, and if this process dies."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=dies_with_parent,
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], _START_S)
            line = process.stdout.readline() if ready else b""
            if not line:
                raise RuntimeError(f"{module} {' '.join(args)} did not start")
            yield Server(**json.loads(line))
        finally:
            process.kill()


class Pipe(asyncio.Protocol):
    """Writes what it receives to its peer; what arrives before there is one is written once there
    is."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._peer: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def join(self, peer: asyncio.Transport) -> None:
        self._peer = peer
        peer.writelines(self._early)
        self._early.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            self._early.append(data)
        else:
            self._peer.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer is not None:
            self._peer.close()


class BareRelay(Pipe):
    """Forwards bytes and parses none: the least that a relay on this event loop can cost."""

    def __init__(self, engine_port: int) -> None:
        super().__init__()
        self._engine_port = engine_port
        self._connecting: asyncio.Task[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(Pipe, HOST, self._engine_port)
        upstream.join(self.transport)
        self.join(upstream.transport)


def announce(sock: socket.socket) -> None:
    """Reports to `running` that this process listens."""
    print(json.dumps({"port": sock.getsockname()[1], "pid": os.getpid()}), flush=True)


async def _serve_bare(engine_port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BareRelay(engine_port), HOST, 0)
    announce(server.sockets[0])
    await server.serve_forever()


async def _serve_router(engine_port: int) -> None:
    # imported here because the load generator need not load Ray
    import uvicorn

    from serving.config import RouterConfig
    from serving.dispatch import RateLimiter
    from serving.mistral import ModelRules
    from serving.router.app import RouterApp
    from serving.router.garbage import spare_requests
    from serving.router.http.authentication import Authentication
    from serving.router.http.server import listening_socket, server_config
    from serving.router.proxy.relay import Relay
    from serving.router.replicas.directory import Directory
    from serving.router.replicas.health import HealthCheck
    from serving.router.replicas.model import Model
    from serving.router.replicas.replica import ReplicaInfo
    from serving.router.telemetry.metrics import Metrics
    from serving.router.telemetry.observer import Observer
    from serving.router.telemetry.request_log import RequestLog

    rules = ModelRules(MODEL, "v11", context_tokens=131072, image_limit=10)
    config = RouterConfig()
    directory = Directory([Model(MODEL, rules=rules)], config, HealthCheck("token", 5))
    directory.update(MODEL, [ReplicaInfo("replica-0", HOST, engine_port, max_model_len=131072)])
    authentication = Authentication(config)
    metrics = Metrics(directory, authentication)
    log = RequestLog(Path(os.devnull), 0, 0)
    limiter = RateLimiter()
    relay = Relay(directory, "token", config, authentication, limiter, metrics, log.write)
    observer = Observer(directory, config, authentication, "router-0", lambda: 1)
    app = RouterApp(
        directory, relay, authentication, metrics, list, observer, lambda: False, config
    )
    sock = listening_socket(HOST, 0)
    sock.listen()
    spare_requests()
    announce(sock)
    await uvicorn.Server(server_config(app)).serve(sockets=[sock])


if __name__ == "__main__":
    serve = {"router": _serve_router, "bare": _serve_bare}[sys.argv[1]]
    uvloop.run(serve(int(sys.argv[2])))
