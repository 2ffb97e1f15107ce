"""The salts by which tenants' prompts are cached, in engines and in the routers' index."""

from pathlib import Path
from typing import Any

import pytest

from serving.config import ResponsesConfig
from serving.router.proxy.cache_salt import CacheSalts
from serving.tenants import Tenant
from tests.support.engines import Engine, ResetsAfterHead
from tests.support.keys import key_record, keys_of
from tests.support.live_router import MODEL, ON_BACKEND, LiveRouter, StartRouter
from tests.support.response_engine import ResponseEngine

SEARCH, MORE_SEARCH, BATCH = "sk-search-1", "sk-search-2", "sk-batch"
LONG: Any = [{"role": "user", "content": "A secret. " * 1000}]


TENANTS = [Tenant(name="search"), Tenant(name="batch")]


@pytest.fixture
def tenants(tmp_path: Path) -> dict[str, Any]:
    """Returns the settings of a router for two tenants, one of which has two keys."""
    owners = {SEARCH: "search", MORE_SEARCH: "search", BATCH: "batch"}
    keys = [key_record(key, tenant) for key, tenant in owners.items()]
    return {"tenants": TENANTS, "authentication": keys_of(tmp_path, *keys)}


def salts(router: LiveRouter, engine: int = 0) -> list[bytes | None]:
    """Returns the salt of each request that an engine has had."""
    return [request.header(b"x-cache-salt") for request in router.engines[engine].received]


def test_salts_follow_from_the_token_and_the_tenant_alone() -> None:
    one, same = (CacheSalts("token", 2).of("a") for _ in range(2))
    assert one == same
    others = [CacheSalts("token", 2).of("b"), CacheSalts("another", 2).of("a")]
    assert len({one.header, *(other.header for other in others)}) == 3
    assert len({one.seed, 0, *(other.seed for other in others)}) == 4
    assert -(1 << 63) <= one.seed < 1 << 63
    assert one.header.startswith(b"x-cache-salt: ") and one.header.endswith(b"\r\n")
    assert f"{one.seed & (1 << 64) - 1:016x}".encode() not in one.header


@pytest.mark.parametrize("count", [0, 1])
def test_a_tenant_alone_has_no_salt(count: int) -> None:
    salt = CacheSalts("token", count).of("a")
    assert (salt.header, salt.seed) == (b"", 0)


async def test_an_engine_gets_the_salt_of_the_tenant_and_none_of_the_client(
    start_router: StartRouter, tenants: dict[str, Any]
) -> None:
    router = await start_router(Engine, **tenants)
    for key in (SEARCH, MORE_SEARCH, BATCH):
        answer = await router.chat({"x-api-key": key, "X-Cache-Salt": "my-own"})
        assert "x-cache-salt" not in answer.headers
    search, again, batch = salts(router)
    assert search == again != batch
    assert b"my-own" not in (search, batch)


async def test_without_a_second_tenant_nothing_is_salted(
    start_router: StartRouter, tenants: dict[str, Any]
) -> None:
    for settings in ({}, tenants | {"tenants": TENANTS[:1]}):
        router = await start_router(Engine, **settings)
        await router.chat({"x-api-key": SEARCH, "x-cache-salt": "my-own"})
        assert salts(router) == [None]


async def test_another_server_gets_no_salt(
    start_router: StartRouter, tenants: dict[str, Any]
) -> None:
    router = await start_router(Engine, models=[ON_BACKEND], **tenants)
    await router.chat({"x-api-key": SEARCH})
    assert salts(router) == [None]


async def test_every_replica_that_is_tried_gets_the_salt(
    start_router: StartRouter, tenants: dict[str, Any]
) -> None:
    router = await start_router(ResetsAfterHead, Engine, **tenants)
    await router.chat({"x-api-key": SEARCH}, stream=True)
    assert salts(router) == salts(router, 1) != [None]


async def test_a_response_that_continues_another_has_the_salt(
    start_router: StartRouter, tenants: dict[str, Any], tmp_path: Any
) -> None:
    stored = ResponsesConfig(folder=str(tmp_path))
    router = await start_router(ResponseEngine, **tenants, responses=stored)

    async def create(**fields: Any) -> Any:
        response = await router.http.post(
            "/v1/responses",
            json={"model": MODEL, "input": "Hi", **fields},
            headers={"x-api-key": SEARCH},
        )
        return response.json()

    first = await create()
    await create(previous_response_id=first["id"])
    one, other = salts(router)
    assert one == other is not None


@pytest.mark.parametrize("endpoint", ["/tokenize", "/v1/messages/count_tokens"])
async def test_so_have_requests_that_generate_nothing(
    start_router: StartRouter, tenants: dict[str, Any], endpoint: str
) -> None:
    router = await start_router(Engine, **tenants)
    await router.http.post(endpoint, json={"model": MODEL}, headers={"x-api-key": SEARCH})
    assert salts(router) != [None]


async def test_no_tenant_learns_from_the_index_what_another_has_asked(
    start_router: StartRouter, tenants: dict[str, Any]
) -> None:
    router = await start_router(Engine, Engine, **tenants)

    async def expected(key: str) -> int:
        answer = await router.chat({"x-api-key": key}, messages=LONG)
        return int(answer.headers["x-expected-cached-tokens"])

    assert await expected(SEARCH) == 0
    assert await expected(BATCH) == 0
    assert await expected(MORE_SEARCH) > 2000
    assert await expected(BATCH) > 2000
