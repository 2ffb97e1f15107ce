"""A router in a process of its own, for a test that kills it.

`python -m tests.router.ledger.router_process ROUTER FOLDER ENGINE_PORT ...` serves MODEL from
these engines, keeps its usage in the folder, and prints its port and pid as a line of JSON.
SIGUSR1 stops it in order.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvicorn
import uvloop

from serving.config import AdmissionConfig, RouterConfig
from serving.dispatch import RateLimiter
from serving.router.app import RouterApp
from serving.router.http.authentication import Authentication
from serving.router.http.server import listening_socket, server_config
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.relay import Relay
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.request_log import RequestLog
from tests.bench.relay_process import announce

HOST, MODEL, TOKEN = "127.0.0.1", "mistral-test/small", "the-engines-token"


async def main(router: str, folder: str, *ports: str) -> None:
    admission = AdmissionConfig(max_waiting=100_000)
    config = RouterConfig(admission=admission)
    directory = Directory([Model(MODEL)], config, HealthCheck(TOKEN, 0.1))
    engines = [ReplicaInfo(f"replica-{port}", HOST, int(port), 8192) for port in ports]
    directory.update(MODEL, engines)
    known = Authentication(config)
    metrics = Metrics(directory, known)
    ledger = Ledger(Path(folder), router, TOKEN, 400, 7, metrics)
    log = RequestLog(Path(os.devnull), 0, 0)
    limiter = RateLimiter()
    relay = Relay(directory, TOKEN, config, known, limiter, metrics, log.write, ledger=ledger)
    observer = Observer(directory, config, known, router, lambda: 1)
    app = RouterApp(
        directory, relay, known, metrics, list, observer, lambda: False, config, ledger=ledger
    )
    sock = listening_socket(HOST, 0)
    sock.listen()
    writing = asyncio.create_task(ledger.run())
    server = uvicorn.Server(server_config(app))
    # After SIGTERM and SIGINT uvicorn ends the process itself.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.handle_exit, 0, None)
    announce(sock)
    await server.serve(sockets=[sock])
    await ledger.close()
    await writing


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
