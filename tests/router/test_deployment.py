"""The router's options and reports for Ray Serve."""

import asyncio
import gc
import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from serving import serve_log
from serving.config import LedgerConfig, ResponsesConfig, RouterConfig
from serving.dispatch import TenantLimits
from serving.ledger.folder import LedgerFolder
from serving.router import deployment
from serving.router.http.authentication import Authentication
from serving.router.http.errors import ApiError
from serving.router.peers.peers import Peers
from serving.router.replicas import feed
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.telemetry.metrics import Metrics
from serving.router.telemetry.request_log import RequestLog
from serving.scaling.report import NAMES
from serving.tenants import Tenant
from tests.support.engines import Engine, fresh
from tests.support.keys import key_record, keys_of
from tests.support.live_router import CHAT, MESSAGES, MODEL, running_engine
from tests.support.ports import free_port
from tests.support.waiting import eventually


def test_serve_waits_longer_than_the_drain() -> None:
    options = deployment.options(RouterConfig(drain_timeout_s=600))
    assert options["graceful_shutdown_timeout_s"] > 600


def test_a_new_router_is_up_before_the_old_one_stops() -> None:
    assert deployment.options(RouterConfig(replicas=1))["max_surge_percent"] >= 100


def test_a_router_reports_the_models_that_scale() -> None:
    models = [Model("org/scaled", scales=True), Model("fixed")]
    stats = deployment.reports(Directory(models, RouterConfig(), HealthCheck("token", 1)))
    assert list(stats) == [f"org/scaled/{name}" for name in NAMES]
    # Serve 2.60 accepts only these types, and stops asking after anything else.
    assert all(isinstance(value, int | float) for value in stats.values())


@pytest.fixture
def no_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, feed.Listener]:
    """Replaces Ray Serve; returns the listeners for live routers by their ids."""
    listeners: dict[str, feed.Listener] = {}
    names = (f"router-{i}" for i in itertools.count())

    def subscribe(handle: Any, listener: feed.Listener) -> None:
        listeners[handle] = listener
        listener({})

    def context() -> Any:
        replica_id = SimpleNamespace(unique_id=f"router-{len(listeners)}")
        return SimpleNamespace(replica_id=replica_id, deployment="Router", app_name="app")

    monkeypatch.setattr(serve, "get_replica_context", context)
    monkeypatch.setattr(serve, "get_deployment_handle", lambda *_: next(names))
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setattr(deployment, "engine_token", lambda: "token")
    monkeypatch.setattr(feed, "subscribe", subscribe)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    log = RequestLog(tmp_path / "log", 0, 0)
    monkeypatch.setattr(RequestLog, "of_this_replica", lambda: log)
    monkeypatch.setattr(serve_log, "session_folder", lambda: tmp_path)
    return listeners


def new_router() -> Any:
    """A router of which Serve calls the methods: Python would call `__del__` again, unawaited."""
    router_class: Any = deployment.Deployment.func_or_class
    no_del: Any = type("Router", (router_class,), {"__del__": lambda _: None})
    return no_del.__new__(no_del)


async def test_routers_that_share_a_port_are_scraped_each_at_its_own(
    no_serve: dict[str, feed.Listener],
) -> None:
    port = free_port()
    config = RouterConfig(host="127.0.0.1", port=port, drain_timeout_s=1)
    router_class: Any = deployment.Deployment.func_or_class
    routers = [new_router() for _ in range(2)]
    for router in routers:
        await router_class.__init__(router, config, [Model("org/m")], {}, None)
    up = {f"router-{i}": router.record_replica_metadata() for i, router in enumerate(routers)}
    for listener in no_serve.values():
        listener(up)
    async with httpx.AsyncClient(timeout=60) as http:
        for _ in range(3):
            await http.post(f"http://127.0.0.1:{port}/v1/completions", json={"model": "no"})
        found = (await http.get(f"http://127.0.0.1:{port}/-/targets")).json()
        assert [target["labels"] for target in found] == [
            {"component": "router", "router": "router-0"},
            {"component": "router", "router": "router-1"},
        ]
        addresses = [target["targets"][0] for target in found]
        assert len({f"127.0.0.1:{port}", *addresses}) == 3
        scraped = [(await http.get(f"http://{address}/metrics")).text for address in addresses]
    invalid = re.compile(r'requests_total\{model="unknown",outcome="invalid"\} (\d)')
    assert sum(int(count) for text in scraped for count in invalid.findall(text)) == 3
    for router in routers:
        await router_class.__del__(router)


async def test_a_new_router_takes_requests_once_it_has_learned_what_the_others_know(
    no_serve: dict[str, feed.Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, told = free_port(), asyncio.Event()

    async def learned(_: Peers) -> None:
        await told.wait()

    monkeypatch.setattr(Peers, "learned", learned)
    router = new_router()
    config = RouterConfig(host="127.0.0.1", port=port, drain_timeout_s=1)
    starting = asyncio.create_task(router.__init__(config, [Model("org/m")], {}, None))
    await eventually(lambda: no_serve)
    assert await accepts(port) is False
    assert not starting.done()
    told.set()
    await starting
    await eventually(lambda: router._server.started)
    assert await accepts(port)
    router_class: Any = deployment.Deployment.func_or_class
    await router_class.__del__(router)


async def remaining(port: int) -> tuple[int, int]:
    """Asks, and returns how many requests and tokens the tenant has left."""
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"http://127.0.0.1:{port}{CHAT}",
            json={"model": MODEL, "messages": MESSAGES, "max_tokens": 1},
            headers={"x-api-key": "key"},
        )
    assert answer.status_code == 200, answer.text
    left = ("requests", "tokens")
    requests, tokens = (int(answer.headers[f"x-ratelimit-remaining-{name}"]) for name in left)
    return requests, tokens


async def test_limits_survive_the_restart_of_all_routers(
    no_serve: dict[str, feed.Listener], tmp_path: Path
) -> None:
    limits = TenantLimits(requests_per_minute=100, tokens_per_day=100_000)
    router_class: Any = deployment.Deployment.func_or_class
    port = free_port()
    config = RouterConfig(
        host="127.0.0.1",
        port=port,
        drain_timeout_s=1,
        tenants=(Tenant(name="a", limits=limits),),
        authentication=keys_of(tmp_path, key_record("key", "a")),
        ledger=LedgerConfig(folder=str(tmp_path / "usage")),
    )
    async with running_engine(fresh(Engine)) as engine_port:
        engine = ReplicaInfo("replica-0", "127.0.0.1", engine_port, 8192)

        async def started() -> Any:
            router = new_router()
            await router.__init__(config, [Model(MODEL)], {}, None)
            router._directory.update(MODEL, [engine])
            await eventually(lambda: router._server.started)
            return router

        async def stopped(router: Any) -> None:
            await router_class.__del__(router)
            router._directory.update(MODEL, [])

        router = await started()
        requests, tokens = await remaining(port)
        of_one = 100_000 - tokens
        assert requests == 99 and of_one > 0
        await stopped(router)

        # Two at the same time, of which neither is up for the other yet.
        routers = [await started(), await started()]
        up = {f"router-{1 + i}": one.record_replica_metadata() for i, one in enumerate(routers)}
        for listener in [*no_serve.values()][-2:]:
            listener(up)
        await eventually(lambda: all(one._peers.subscribers for one in routers))
        assert await remaining(port) == (98, 100_000 - used(tmp_path / "usage") - of_one)
        for router in routers:
            await stopped(router)


def used(folder: Path) -> int:
    """Returns the tokens of all requests, by the ledger."""
    today = datetime.now(UTC).date()
    report = LedgerFolder(folder).report(today - timedelta(1), today, datetime.now(UTC), ())
    return sum(row.input_tokens + row.output_tokens for row in report.rows)


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("folder", [None, "own"])
async def test_routers_of_a_node_store_responses_in_one_folder(
    tmp_path: Path, folder: str | None
) -> None:
    own = None if folder is None else str(tmp_path / folder)
    config = RouterConfig(responses=ResponsesConfig(folder=own))
    metrics = Metrics(Directory([], config, HealthCheck("token", 1)), Authentication(config))
    stored = deployment.responses_of(config, 1, metrics, tmp_path / "session")
    assert stored is not None
    with pytest.raises(ApiError):
        await stored.get("default", "resp_1")
    await stored.close()
    assert (tmp_path / (folder or "session/mistral-serve")).is_dir()


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_router_does_not_start_without_the_password_of_redis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("OF_REDIS", raising=False)
    if value is not None:
        monkeypatch.setenv("OF_REDIS", value)
    stored = ResponsesConfig(redis_url="redis://redis", redis_password_env="OF_REDIS")
    config = RouterConfig(responses=stored)
    metrics = Metrics(Directory([], config, HealthCheck("token", 1)), Authentication(config))
    with pytest.raises(RuntimeError, match="OF_REDIS"):
        deployment.responses_of(config, 1, metrics, tmp_path)


def test_a_router_may_store_nothing(tmp_path: Path) -> None:
    config = RouterConfig(responses=ResponsesConfig(max_bytes=0))
    metrics = Metrics(Directory([], config, HealthCheck("token", 1)), Authentication(config))
    assert deployment.responses_of(config, 1, metrics, tmp_path) is None
