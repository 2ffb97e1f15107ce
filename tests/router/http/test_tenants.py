"""Authentication by tenants' keys, and the secrecy of the keys."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.asgi import Headers
from serving.config import TenantConfig
from serving.placement import Capacity
from serving.router.http.tenants import Tenants
from tests.router.test_app import error_of
from tests.support.engines import Engine, Steered
from tests.support.live_router import CHAT, MESSAGES, MODEL, LiveRouter, StartRouter
from tests.support.waiting import eventually

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
SEARCH, BATCH = "sk-search-1", "sk-batch-1"


@pytest.fixture
def tenants(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[TenantConfig]:
    """Returns `search`, with two keys in a variable, and `batch`, with a key in a file."""
    monkeypatch.setenv("SEARCH_KEYS", f"{SEARCH}\nsk-search-2")
    (tmp_path / "batch").write_text(f"{BATCH}\n")
    return [
        TenantConfig(name="search", api_keys_env="SEARCH_KEYS"),
        TenantConfig(name="batch", api_keys_file=str(tmp_path / "batch"), max_priority=3),
    ]


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("authorization", f"Bearer {SEARCH}"),
        ("authorization", f"bearer  {SEARCH}"),
        ("authorization", "Bearer sk-search-2"),
        ("x-api-key", SEARCH),
        ("api-key", SEARCH),
    ],
)
async def test_a_request_is_its_tenants_by_any_of_the_keys(
    start_router: StartRouter, tenants: list[TenantConfig], header: str, value: str
) -> None:
    router = await start_router(Engine, tenants=tenants)
    assert (await router.chat({header: value}, **ASK)).status_code == 200
    await eventually(lambda: router.lines)
    assert json.loads(router.lines[0])["tenant"] == "search"


async def test_the_openai_client_has_a_tenants_key(
    start_router: StartRouter, tenants: list[TenantConfig]
) -> None:
    router = await start_router(Engine, tenants=tenants)
    of_search = router.openai.with_options(api_key=SEARCH)
    assert [m.id async for m in of_search.models.list()] == [MODEL]
    await of_search.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": ""}])
    with pytest.raises(openai.AuthenticationError):
        await router.openai.models.list()
    with pytest.raises(openai.AuthenticationError) as refused:
        await router.openai.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer sk-other", SEARCH])
async def test_without_a_tenants_key_nothing_reaches_an_engine(
    start_router: StartRouter, tenants: list[TenantConfig], authorization: str | None
) -> None:
    router = await start_router(Engine, tenants=tenants)
    headers = {"authorization": authorization} if authorization else {}
    for path in (CHAT, "/tokenize"):
        refused = await router.http.post(path, json={"model": MODEL, **ASK}, headers=headers)
        assert error_of(refused, 401)["code"] == "invalid_api_key"
        assert refused.headers["www-authenticate"] == "Bearer"
    assert not router.engines[0].received
    await eventually(lambda: len(router.lines) == 2)
    line = json.loads(router.lines[0])
    assert (line["outcome"], line["status"], line["tenant"]) == ("unauthorized", 401, None)


@pytest.mark.parametrize("path", ["/health", "/-/healthz", "/metrics", "/version"])
async def test_whoever_operates_it_needs_no_key(
    start_router: StartRouter, tenants: list[TenantConfig], path: str
) -> None:
    router = await start_router(Engine, tenants=tenants)
    assert (await router.http.get(path)).status_code == 200


async def test_without_tenants_any_key_will_do(router: LiveRouter) -> None:
    for headers in ({}, {"authorization": "Bearer EMPTY"}):
        assert (await router.chat({**headers}, **ASK)).status_code == 200


async def test_a_tenant_goes_no_further_ahead_than_it_may(
    start_router: StartRouter, tenants: list[TenantConfig]
) -> None:
    router = await start_router(
        Steered, tenants=tenants, capacity=Capacity(10**6, 1), max_wait_s=1000
    )
    asking = []

    async def ask(key: str, priority: str) -> None:
        headers: dict[str, str | bytes] = {"x-api-key": key, "x-priority": priority}
        headers["x-request-id"] = f"{key}-{priority}"
        asking.append(asyncio.create_task(router.chat(headers, **ASK)))

    await ask(SEARCH, "5")
    engine = await router.asked()
    dispatcher = router.directory.models[MODEL].dispatcher
    for key, priority in ((BATCH, "9"), (SEARCH, "4"), (BATCH, "2")):
        await ask(key, priority)
        await eventually(lambda: dispatcher.waiting == len(asking) - 1)
    engine.proceed()
    order = []
    for _ in asking[1:]:
        engine = await router.asked()
        order.append(engine.request_id)
        engine.proceed()
    await asyncio.gather(*asking)
    assert order == [f"{SEARCH}-4", f"{BATCH}-9", f"{BATCH}-2"]


async def test_no_key_is_published_or_kept(
    start_router: StartRouter, tenants: list[TenantConfig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    router = await start_router(Engine, tenants=tenants)
    answers = [await router.chat({"x-api-key": key}, **ASK) for key in (SEARCH, "sk-secret")]
    await eventually(lambda: len(router.lines) == 2)
    published = [answer.text for answer in answers] + [str(answer.headers) for answer in answers]
    published += [line.decode() for line in router.lines] + [caplog.text]
    published += [(await router.http.get("/metrics")).text]
    published += [str(request) for request in router.engines[0].received]
    assert not [text for text in published if SEARCH in text or "sk-secret" in text]


def test_a_key_that_is_missing_where_the_router_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="tenant a: the environment variable NO_KEYS has no API"):
        Tenants([TenantConfig(name="a", api_keys_env="NO_KEYS")])
    for content in (None, " \n"):
        if content is not None:
            (tmp_path / "keys").write_text(content)
        with pytest.raises(RuntimeError, match=r"tenant a: the file .*keys"):
            Tenants([TenantConfig(name="a", api_keys_file=str(tmp_path / "keys"))])


def test_two_tenants_cannot_have_one_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one two")
    file = str(tmp_path / "keys")
    with pytest.raises(RuntimeError, match="tenants a and b have the same key") as raised:
        Tenants([TenantConfig(name=name, api_keys_file=file) for name in "ab"])
    assert "one" not in str(raised.value)


def test_a_header_of_any_bytes_is_no_key(tenants: list[TenantConfig]) -> None:
    headers: Headers = [(b"authorization", b"Bearer \xff\x00"), (b"x-api-key", SEARCH.encode())]
    assert Tenants(tenants).of(headers).name == "search"
