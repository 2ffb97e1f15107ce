from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.config import ResponsesConfig
from tests.router.conftest import start_router
from tests.support.event_loop import pytest_asyncio_loop_factories
from tests.support.live_router import LiveRouter, StartRouter
from tests.support.redis_server import RedisServer, needs_redis, running_redis
from tests.support.response_engine import ResponseEngine

__all__ = ["pytest_asyncio_loop_factories", "start_router"]

STORES = ["file", pytest.param("redis", marks=needs_redis)]


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis."""
    shared_redis.start()
    with shared_redis.client() as client:
        client.flushall()
    return shared_redis


@pytest.fixture
def in_redis(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> ResponsesConfig:
    """Has responses stored in Redis."""
    monkeypatch.setenv("TEST_REDIS_PASSWORD", redis.password)
    return ResponsesConfig(redis_url=redis.url, redis_password_env="TEST_REDIS_PASSWORD")


@pytest.fixture(params=STORES)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> ResponsesConfig:
    """Has responses stored, in each kind of store."""
    if request.param == "redis":
        in_redis: ResponsesConfig = request.getfixturevalue("in_redis")
        return in_redis
    return ResponsesConfig(folder=str(tmp_path / "responses"))


@pytest.fixture
async def router(start_router: StartRouter, stored: ResponsesConfig) -> LiveRouter:
    """A router that stores responses, with one healthy engine."""
    return await start_router(ResponseEngine, responses=stored)
