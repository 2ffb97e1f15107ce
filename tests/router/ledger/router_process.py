"""A router in a process of its own, for a test that kills it.

`python -m tests.router.ledger.router_process ROUTER FOLDER ENGINE_PORT ...` serves MODEL from
these engines, keeps its usage and responses in the folder, and prints its port and pid as a line of
JSON. With TEST_REDIS_URL responses are there. SIGUSR1 stops it in order.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvicorn
import uvloop

from serving.config import AdmissionConfig, ResponsesConfig, RouterConfig
from serving.dispatch import RateLimiter
from serving.router.app import RouterApp
from serving.router.deployment import responses_of
from serving.router.http.authentication import Authentication
from serving.router.http.server import listening_socket, server_config
from serving.router.ledger.ledger import Ledger
from serving.router.proxy.relay import Relay
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.responses.responses import PATH
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.request_log import RequestLog
from tests.bench.relay_process import announce

HOST, MODEL, TOKEN = "127.0.0.1", "mistral-test/small", "the-engines-token"


async def main(router: str, folder: str, *ports: str) -> None:
    admission = AdmissionConfig(max_waiting=100_000)
    stored = ResponsesConfig(folder=folder)
    if (redis_url := os.environ.get("TEST_REDIS_URL")) is not None:
        password_env = "TEST_REDIS_PASSWORD"
        stored = ResponsesConfig(redis_url=redis_url, redis_password_env=password_env)
    config = RouterConfig(admission=admission, responses=stored)
    directory = Directory([Model(MODEL)], config, HealthCheck(TOKEN, 0.1))
    engines = [ReplicaInfo(f"replica-{port}", HOST, int(port), 8192) for port in ports]
    directory.update(MODEL, engines)
    known = Authentication(config)
    metrics = Metrics(directory, known)
    ledger = Ledger(Path(folder), router, TOKEN, 400, 7, metrics)
    log = RequestLog(Path(os.devnull), 0, 0)
    limiter = RateLimiter()
    responses = responses_of(config, len(known.tenants), metrics, Path(folder))
    assert responses is not None
    relay = Relay(
        directory,
        TOKEN,
        config,
        known,
        limiter,
        metrics,
        log.write,
        responses=responses,
        ledger=ledger,
    )
    observer = Observer(directory, config, known, router, lambda: 1)
    app = RouterApp(
        directory, relay, known, metrics, list, observer, lambda: False, config, responses, ledger
    )
    sock = listening_socket(HOST, 0)
    sock.listen()
    writing = asyncio.create_task(ledger.run())
    going_on = asyncio.create_task(responses.failover.run(relay, PATH, known.tenants))
    server = uvicorn.Server(server_config(app))
    # After SIGTERM and SIGINT uvicorn ends the process itself.
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, server.handle_exit, 0, None)
    announce(sock)
    await server.serve(sockets=[sock])
    going_on.cancel()
    await responses.close()
    await ledger.close()
    await writing


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
