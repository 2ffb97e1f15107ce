"""The Router deployment: the relay on its own port, fed by Ray Serve with the live replicas."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle

from serving import ports, serve_log
from serving.config import ANY_ADDRESS, ResponsesConfig, RouterConfig
from serving.dispatch import RateLimiter
from serving.engine_protocol import engine_token
from serving.router.app import RouterApp
from serving.router.batches.runner import BatchRunner
from serving.router.batches.store import BatchStore
from serving.router.garbage import spare_requests
from serving.router.http.authentication import Authentication
from serving.router.http.server import HttpServer, listening_socket
from serving.router.http.tls import Certificate
from serving.router.ledger.ledger import Ledger
from serving.router.load_watch import LoadWatch
from serving.router.peers.peers import PeerInfo, Peers
from serving.router.proxy.relay import Relay
from serving.router.replicas import feed
from serving.router.replicas.backend_health import BackendHealth
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.responses.responses import PATH as RESPONSES
from serving.router.responses.responses import Responses
from serving.router.responses.sqlite_store import SqliteStore
from serving.router.responses.store import ResponseStore
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.observer import Observer
from serving.router.telemetry.request_log import RequestLog
from serving.router.telemetry.scrape_targets import scrape_targets

_CLOSE_S = 10
_LEARN_TIMEOUT_S = 5
"""The longest time for which a new router takes no request while it learns one thing."""

log = logging.getLogger(__name__)


def options(config: RouterConfig) -> dict[str, Any]:
    """Returns Ray Serve's options for the router."""
    return {
        "num_replicas": config.replicas,
        # A stopping router accepts no connections, so its successor must be up first.
        "max_surge_percent": 100,
        "ray_actor_options": {"num_cpus": config.cpus},
        "graceful_shutdown_timeout_s": config.drain_timeout_s + _CLOSE_S,
        "graceful_shutdown_wait_loop_s": 1,
        "health_check_period_s": 2,
        "health_check_timeout_s": 30,
    }


class Router:
    """Serves `RouterApp` on the configured host and port."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        config: RouterConfig,
        models: list[Model],
        engines: dict[str, DeploymentHandle[Any]],
        traces_url: str | None,
    ) -> None:
        self._drain_timeout_s = config.drain_timeout_s
        self._draining = False
        authentication = Authentication(config)
        token = engine_token()
        check = HealthCheck(token, config.replica_backoff_s)
        directory = self._directory = Directory(models, config, check)

        def updater(model_id: str) -> Callable[[feed.Replicas], None]:
            def update(replicas: feed.Replicas) -> None:
                infos = [ReplicaInfo.from_metadata(*replica) for replica in replicas.items()]
                directory.update(model_id, infos)

            return update

        known = [subscribe(handle, updater(model_id)) for model_id, handle in engines.items()]
        watches = [
            BackendHealth(model.backend, partial(directory.update, model.model_id))
            for model in models
            if model.backend is not None
        ]
        self._watching = [asyncio.create_task(watch.run()) for watch in watches]
        self._watching.append(asyncio.create_task(authentication.run()))
        with_adapters = [one for one in directory.models.values() if one.adapters is not None]
        for served in with_adapters:
            assert served.adapters is not None
            # Before a request could find that an adapter does not exist.
            await asyncio.to_thread(served.adapters.look)
            self._watching.append(asyncio.create_task(served.follow_adapters()))
        context = serve.get_replica_context()
        self._host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        limiter = RateLimiter()
        self._peers = Peers(directory, limiter, token, context.replica_id.unique_id)
        self._peers_port = await self._peers.listen(self._host)

        routers: list[PeerInfo] = []

        def update_peers(replicas: feed.Replicas) -> None:
            routers[:] = [PeerInfo.from_metadata(*replica) for replica in replicas.items()]
            self._peers.update(routers)

        own_handle = serve.get_deployment_handle(context.deployment, context.app_name)
        # What others say of a replica that this router does not know is lost.
        await soon("the engines", *(engine.wait() for engine in known))
        others_known = subscribe(own_handle, update_peers)
        await soon("the other routers", others_known.wait())
        await soon("what the other routers know", self._peers.learned())
        self._request_log = RequestLog.of_this_replica()
        self._tracing = None
        if traces_url is not None:
            from serving.router.telemetry.tracing import Tracing

            self._tracing = Tracing(traces_url)
        self._metrics = metrics = Metrics(directory, authentication)
        session_folder = serve_log.session_folder()
        tenants = len(authentication.tenants)
        self._responses = responses_of(config, tenants, metrics, session_folder)
        router_id = context.replica_id.unique_id
        self._ledger = ledger_of(config, router_id, token, metrics, session_folder)
        limited = [one.name for one in authentication.tenants.values() if one.limits is not None]
        if (
            others_known.is_set()
            and self._peers.is_first()
            and self._ledger is not None
            and (limited or with_adapters)
        ):
            self._restoring = asyncio.create_task(self._ledger.restore(limiter, limited))
            await soon("what tenants have used", asyncio.shield(self._restoring))
        relay = Relay(
            directory,
            token,
            config,
            authentication,
            limiter,
            metrics,
            self._request_log.write,
            self._tracing,
            self._responses,
            self._ledger,
        )
        self._batches = batches_of(config, authentication, relay, session_folder)
        targets = partial(scrape_targets, directory, routers)
        names = {model_id: handle.deployment_name for model_id, handle in engines.items()}
        observer = Observer(
            directory, config, authentication, router_id, lambda: len(routers), deployments=names
        )
        app = RouterApp(
            directory,
            relay,
            authentication,
            metrics,
            targets,
            observer,
            lambda: self._draining,
            config,
            self._responses,
            self._ledger,
            self._batches,
        )
        own_host = self._host if config.host in ANY_ADDRESS else config.host
        own_sock = ports.listen(own_host)
        self._metrics_address = f"{own_host}:{own_sock.getsockname()[1]}"
        sock = listening_socket(config.host, config.port)
        certificates = {} if config.tls is None else {sock: Certificate(config.tls)}
        self._server = HttpServer(app, sock, own_sock, certificates=certificates)
        self._serving = asyncio.create_task(self._server.run_until_stopped())
        watch = LoadWatch(metrics, self._server, lambda: self._peers.others)
        self._watching.append(asyncio.create_task(watch.run()))
        if self._responses is not None:
            self._watching.append(asyncio.create_task(self._responses.expire()))
            going_on = self._responses.failover.run(relay, RESPONSES, authentication.tenants)
            self._watching.append(asyncio.create_task(going_on))
        if self._ledger is not None:
            self._watching.append(asyncio.create_task(self._ledger.run()))
        if self._batches is not None:
            self._watching.append(asyncio.create_task(self._batches.run()))
            self._watching.append(asyncio.create_task(self._batches.expire()))
        spare_requests()

    def record_replica_metadata(self) -> dict[str, Any]:
        return {
            "host": self._host,
            "port": self._peers_port,
            "metrics_address": self._metrics_address,
        }

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Ray Serve calls this every few seconds and passes the result to its controller."""
        return reports(self._directory) | self._metrics.load.named()

    async def check_health(self) -> None:
        if self._serving.done():
            raise RuntimeError("the router's HTTP server ended")
        for watching in self._watching:
            if watching.done():
                watching.result()

    async def __del__(self) -> None:
        self._draining = True
        ending = [self._server.stop(self._drain_timeout_s)]
        if self._responses is not None:
            ending.append(self._responses.runs.drain(self._drain_timeout_s))
        if self._batches is not None:
            ending.append(self._batches.drain(self._drain_timeout_s))
        await asyncio.gather(*ending)
        await asyncio.wait([self._serving], timeout=_CLOSE_S / 2)
        if self._responses is not None:
            await self._responses.close()
        if self._ledger is not None:
            await self._ledger.close()
        await self._peers.close()
        if self._tracing is not None:
            await self._tracing.close()
        self._request_log.close()


async def soon(what: str, *coming: Awaitable[object]) -> None:
    """Waits for all of it, but not for long: a router that knows little is better than none."""
    try:
        async with asyncio.timeout(_LEARN_TIMEOUT_S):
            await asyncio.gather(*coming)
    except TimeoutError:
        log.warning("takes requests without knowing %s", what)


def responses_of(
    config: RouterConfig, tenants: int, metrics: Metrics, session_folder: Path
) -> Responses | None:
    """Returns the router's stored responses; None if it stores none."""
    stored = config.responses
    if not stored.max_bytes:
        return None
    limits = stored.keep_s, stored.max_bytes, tenants
    store: ResponseStore
    if stored.redis_url is not None:
        from serving.router.responses.redis_store import RedisStore

        store = RedisStore(stored.redis_url, _redis_password(stored), *limits)
    else:
        folder = session_folder / "mistral-serve" if stored.folder is None else Path(stored.folder)
        store = SqliteStore(folder, *limits)
    return Responses(store, int(config.max_body_mib * 1024 * 1024), metrics.response_kept)


def ledger_of(
    config: RouterConfig, router_id: str, engine_token: str, metrics: Metrics, session_folder: Path
) -> Ledger | None:
    """Returns the router's part of the usage ledger; None if it keeps none. Raises RuntimeError."""
    kept = config.ledger
    if not kept.keep_days:
        return None
    default = session_folder / "mistral-serve" / "usage"
    folder = default if kept.folder is None else Path(kept.folder)
    try:
        return Ledger(
            folder, router_id, engine_token, kept.keep_days, kept.keep_entries_days, metrics
        )
    except OSError as error:
        raise RuntimeError(
            f"router.ledger: {folder} cannot be made or written to where the router runs: "
            f"{error.strerror}"
        ) from None


def batches_of(
    config: RouterConfig, authentication: Authentication, relay: Relay, session_folder: Path
) -> BatchRunner | None:
    """Returns what runs the batches of a router; None if there are none."""
    batches = config.batches
    if not batches.max_bytes:
        return None
    folder = session_folder / "mistral-serve" if batches.folder is None else Path(batches.folder)
    store = BatchStore(
        folder / "batches",
        batches.keep_s,
        batches.max_bytes,
        int(batches.max_file_mib * 1024 * 1024),
        len(authentication.tenants),
    )
    return BatchRunner(store, relay, authentication.tenants)


def _redis_password(config: ResponsesConfig) -> str | None:
    variable = config.redis_password_env
    if variable is None:
        return None
    if not (password := os.environ.get(variable, "").strip()):
        raise RuntimeError(
            f"router.responses: the environment variable {variable} has no password of Redis where "
            "the router runs"
        )
    return password


def subscribe(
    handle: DeploymentHandle[Any], listener: Callable[[feed.Replicas], None]
) -> asyncio.Event:
    """Has `listener` called in this event loop with the deployment's replicas, on each change. The
    event is set once it was called."""
    loop, called = asyncio.get_running_loop(), asyncio.Event()

    def update(replicas: feed.Replicas) -> None:
        listener(replicas)
        called.set()

    feed.subscribe(handle, lambda replicas: loop.call_soon_threadsafe(update, replicas))
    return called


def reports(directory: Directory) -> dict[str, float]:
    """Returns the scaling report of each model that scales, as flat named numbers."""
    return {
        name: value
        for model_id, served in directory.models.items()
        if served.model.scales
        for name, value in served.report().named(model_id).items()
    }


Deployment = cast(serve.Deployment, serve.deployment(Router))
