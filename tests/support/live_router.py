"""A router on a loopback port, in the test's own event loop, with engines that the test chooses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from openai import AsyncOpenAI
from starlette.types import Receive, Scope, Send

from serving.config import (
    AdmissionConfig,
    BatchesConfig,
    LedgerConfig,
    ResponsesConfig,
    RouterConfig,
)
from serving.dispatch import RateLimiter
from serving.mistral import ModelRules
from serving.placement import UNLIMITED, Capacity
from serving.placement.policies import PolicyName
from serving.router.app import RouterApp
from serving.router.batches.runner import BatchRunner
from serving.router.deployment import batches_of, ledger_of, responses_of
from serving.router.http.authentication import Authentication
from serving.router.http.server import listening_socket, server_config
from serving.router.ledger.ledger import Ledger
from serving.router.peers.peers import PeerInfo
from serving.router.proxy.relay import Relay
from serving.router.replicas.backend import Backend
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.responses.responses import PATH as RESPONSES
from serving.router.responses.responses import Responses
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.scrape_targets import scrape_targets
from serving.router.telemetry.status import ServiceStatus
from serving.router.telemetry.tracing import Tracing
from serving.tenants import Tenant
from serving.tenants.authentication_config import AuthenticationConfig
from tests.support.engines import Engine, Steered, fresh
from tests.support.http_server import running
from tests.support.ports import free_port
from tests.support.waiting import eventually

CHAT = "/v1/chat/completions"
MODEL = "mistral-test/small"
MESSAGES: Any = [{"role": "user", "content": "Hello"}]
ALIAS = "small"
TOKEN = "the-engines-token"
MAX_BODY_BYTES = 200_000
MAX_MODEL_LEN = 8192
RULES = ModelRules(MODEL, "v11", context_tokens=MAX_MODEL_LEN, image_limit=1)
BACKEND = Backend("http://other.test/v1", MODEL, MAX_MODEL_LEN)
ON_BACKEND = Model(MODEL, (ALIAS,), replace(RULES, other_server=True), BACKEND)
"""The model as a server runs it that is no engine of ours."""
BACKOFF_S = 1000
STARTUP_S = 60
WATCH_PERIOD_S = 0.02
"""Time between two looks at the files with keys."""
IMPATIENT = {"max_wait_s": 0.1, "startup_s": 0.1}
"""Settings with which requests hardly wait for a replica."""
_FAILOVER = "failover"
_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)


class CountedRelay(Relay):
    """A relay that tells how many requests it has not ended yet."""

    requests_in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests_in_flight += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.requests_in_flight -= 1


@dataclass
class LiveRouter:
    """A running router; `engines[i]` is `replica-i` of the first model."""

    url: str
    http: httpx.AsyncClient
    directory: Directory
    engines: Sequence[type[Engine]]
    infos: list[ReplicaInfo]
    lines: list[bytes]
    """The lines of the request log."""
    app: RouterApp
    responses: Responses | None = None
    ledger: Ledger | None = None
    batches: BatchRunner | None = None
    draining: bool = False

    @cached_property
    def openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="the-clients-key", max_retries=0)

    async def asked(self, engine: int = 0) -> Steered:
        """Waits until that engine has a request, and returns its connection."""
        steered = self.engines[engine]
        assert issubclass(steered, Steered)
        return await steered.asked()

    async def close(self) -> None:
        await self.http.aclose()
        if "openai" in vars(self):
            await self.openai.close()

    async def chat(
        self, headers: dict[str, str | bytes] | None = None, **fields: Any
    ) -> httpx.Response:
        return await self.http.post(
            CHAT, json={"model": MODEL} | fields, headers=raw_headers(headers)
        )

    async def begin(
        self, headers: dict[str, str | bytes] | None = None, **fields: Any
    ) -> tuple[asyncio.Task[httpx.Response], Steered]:
        """Begins a chat that the first engine has. Returns its task, and the engine's
        connection."""
        answer = asyncio.create_task(self.chat(headers, **fields))
        return answer, await self.asked()

    async def open_stream(self, **fields: Any) -> httpx.Response:
        """Returns when the head of the response has arrived, with the body still unread."""
        fields = {"model": MODEL, "stream": True} | fields
        return await self.http.send(self.http.build_request("POST", CHAT, json=fields), stream=True)

    async def begun_stream(self, *events: bytes, **fields: Any) -> tuple[Steered, httpx.Response]:
        """Begins a stream of which the first engine has sent `events`. Returns its connection, and
        the response whose head has arrived."""
        answer = asyncio.create_task(self.open_stream(**fields))
        connection = await self.asked()
        connection.begin_stream(*events)
        return connection, await answer

    async def loads(self) -> list[tuple[int, int]]:
        """Returns the requests and tokens in flight on each replica of the first model, as the
        router reports."""
        replicas = next(iter((await self.status()).models.values())).replicas
        return [(replica.requests_in_flight, replica.tokens_in_flight) for replica in replicas]

    async def status(self) -> ServiceStatus:
        response = await self.http.get("/-/status")
        return msgspec.json.decode(response.content, type=ServiceStatus)


def raw_headers(headers: dict[str, str | bytes] | None) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in (headers or {}).items()
    ]


@asynccontextmanager
async def running_engine(engine: type[Engine]) -> AsyncIterator[int]:
    """Serves `engine`, and yields its port."""
    if engine.listens:
        async with running(engine) as port:
            yield port
    else:
        yield free_port()


@asynccontextmanager
async def _listening(app: RouterApp) -> AsyncIterator[str]:
    """Serves `app` as the deployment does, except for uvicorn's main loop, which takes 0.2 s to
    stop."""
    config = server_config(app)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    sock = listening_socket("127.0.0.1", 0)
    await server.startup(sockets=[sock])
    await server.on_tick(0)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        await eventually(lambda: not server.server_state.connections)
        await eventually(lambda: not server.server_state.tasks)
    finally:
        for listener in server.servers:
            listener.close()
            await listener.wait_closed()


@asynccontextmanager
async def running_router(
    *behaviours: type[Engine],
    models: Sequence[Model] | None = None,
    backoff_s: float = BACKOFF_S,
    connect_timeout_s: float = 30,
    check_period_s: float = 0.3,
    check_timeout_s: float = 30,
    startup_s: float = STARTUP_S,
    max_wait_s: float = 30,
    max_waiting: int = 1000,
    max_itl_ms: float | None = None,
    capacity: Capacity = UNLIMITED,
    placement: PolicyName = "least_cost",
    tenants: Sequence[Tenant] = (),
    authentication: AuthenticationConfig | None = None,
    tracing: Tracing | None = None,
    ui: bool = False,
    cors_origins: tuple[str, ...] = ("*",),
    responses: ResponsesConfig | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_bodies_mib: float = 1024,
    ledger_folder: Path | None = None,
    batches: BatchesConfig | None = None,
) -> AsyncIterator[LiveRouter]:
    """Runs a router with an engine of each behaviour. On exit no request may have left anything."""
    before = _tasks()
    models = models or [Model(MODEL, (ALIAS,), RULES)]
    engines = [fresh(behaviour) for behaviour in behaviours]
    check = HealthCheck(TOKEN, backoff_s, period_s=check_period_s, timeout_s=check_timeout_s)
    config = RouterConfig(
        connect_timeout_s=connect_timeout_s,
        max_body_mib=max_body_bytes / 1024**2,
        max_bodies_mib=max_bodies_mib,
        replica_backoff_s=backoff_s,
        startup_s=startup_s,
        placement=placement,
        cors_origins=cors_origins,
        ui=ui,
        responses=responses or ResponsesConfig(max_bytes=0),
        ledger=LedgerConfig(keep_days=0)
        if ledger_folder is None
        else LedgerConfig(folder=str(ledger_folder)),
        batches=batches or BatchesConfig(max_bytes=0),
        tenants=tuple(tenants),
        authentication=authentication or AuthenticationConfig(),
        admission=AdmissionConfig(
            max_wait_s=max_wait_s, max_waiting=max_waiting, max_itl_ms=max_itl_ms
        ),
    )
    directory = Directory(models, config, check)
    lines: list[bytes] = []
    known = Authentication(config)
    metrics = Metrics(directory, known)
    stored = responses_of(config, len(known.tenants), metrics, Path("/nonexistent"))
    limiter = RateLimiter()
    ledger = ledger_of(config, "router-0", TOKEN, metrics, Path("/nonexistent"))
    relay = CountedRelay(
        directory, TOKEN, config, known, limiter, metrics, lines.append, tracing, stored, ledger
    )
    batch_runner = batches_of(config, known, relay, Path("/nonexistent"))
    async with contextlib.AsyncExitStack() as stack:
        watching = asyncio.create_task(known.run(WATCH_PERIOD_S))
        stack.callback(watching.cancel)
        ports = [await stack.enter_async_context(running_engine(e)) for e in engines]
        infos = [
            ReplicaInfo(f"replica-{i}", "127.0.0.1", port, MAX_MODEL_LEN, capacity)
            for i, port in enumerate(ports)
        ]
        directory.update(models[0].model_id, infos)
        replicas = list(directory.models[models[0].model_id].replicas)
        router: LiveRouter
        observer = Observer(directory, config, known, "router-0", lambda: 1)
        app = RouterApp(
            directory,
            relay,
            known,
            metrics,
            lambda: targets(),
            observer,
            lambda: router.draining,
            config,
            stored,
            ledger,
            batch_runner,
        )
        url = await stack.enter_async_context(_listening(app))
        itself = PeerInfo("router-0", "127.0.0.1", 0, url.removeprefix("http://"))
        targets = partial(scrape_targets, directory, [itself])
        http = httpx.AsyncClient(
            base_url=url, verify=False, trust_env=False, limits=_NO_LIMITS, timeout=60
        )
        router = LiveRouter(
            url, http, directory, engines, infos, lines, app, stored, ledger, batch_runner
        )
        if stored is not None:
            looking = stored.failover.run(relay, RESPONSES, known.tenants)
            stack.callback(asyncio.create_task(looking, name=_FAILOVER).cancel)
        running_batches = asyncio.create_task(batch_runner.run()) if batch_runner else None
        stack.push_async_callback(router.close)
        yield router
        await router.close()
        if batch_runner is not None and running_batches is not None:
            await batch_runner.drain(0)
            await running_batches
        await eventually(lambda: relay.requests_in_flight == 0)
        if stored is not None:
            await stored.close()
        if ledger is not None:
            await ledger.close()
        assert [(r.load.requests, r.load.kv_tokens) for r in replicas] == [(0, 0)] * len(replicas)
        for model in models:
            directory.update(model.model_id, [])
        await eventually(lambda: not any(engine.connections for engine in engines))
    await eventually(lambda: _tasks() <= before | {asyncio.current_task()})


def _tasks() -> set[asyncio.Task[Any]]:
    """Returns all tasks but those by which other routers look for what they may take over."""
    return {task for task in asyncio.all_tasks() if task.get_name() != _FAILOVER}


StartRouter = Callable[..., Awaitable[LiveRouter]]


@contextlib.asynccontextmanager
async def starting_routers() -> AsyncIterator[StartRouter]:
    """Yields what starts routers, which stop at the end of the context."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*behaviours: type[Engine], **settings: Any) -> LiveRouter:
            return await stack.enter_async_context(running_router(*behaviours, **settings))

        yield start
