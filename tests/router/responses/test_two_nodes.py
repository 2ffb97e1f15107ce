"""Routers of two nodes, which share a Redis and no disk."""

import asyncio

import pytest

from serving.config import ResponsesConfig
from serving.router.responses import failover, redis_store, runs
from tests.router.responses.test_background import begun, ended, retrieved, with_status
from tests.router.responses.test_stored_responses import PATH, create, created, sent, texts
from tests.router.telemetry.test_metrics import scrape
from tests.router.test_app import error_of
from tests.support.live_router import CHAT, MESSAGES, MODEL, StartRouter
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.response_engine import ResponseEngine, SteeredResponses
from tests.support.waiting import eventually

pytestmark = needs_redis


async def test_what_is_stored_at_one_is_read_and_continued_at_the_other(
    start_router: StartRouter, in_redis: ResponsesConfig
) -> None:
    a = await start_router(ResponseEngine, responses=in_redis)
    b = await start_router(ResponseEngine, responses=in_redis)
    first = await created(a, input="One", stream=True)
    assert (await b.http.get(f"{PATH}/{first['id']}")).json() == first
    items = (await b.http.get(f"{PATH}/{first['id']}/input_items")).json()["data"]
    assert texts(items) == ["One"]
    second = await created(b, input="Two", previous_response_id=first["id"])
    await created(a, input="Three", previous_response_id=second["id"])
    assert texts(sent(a)["input"]) == ["One", "Hello!", "Two", "Hello!", "Three"]
    await b.openai.responses.delete(first["id"])
    error_of(await a.http.get(f"{PATH}/{first['id']}"), 404)
    error = error_of(await create(a, previous_response_id=second["id"]), 404)
    assert error["code"] == "previous_response_not_found"


async def test_what_runs_at_one_is_seen_and_cancelled_at_the_other(
    start_router: StartRouter, in_redis: ResponsesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.02)
    a = await start_router(SteeredResponses, responses=in_redis)
    b = await start_router(ResponseEngine, responses=in_redis)
    response = await begun(a)
    engine = await a.asked()
    await with_status(b, response["id"], "in_progress")
    assert (await b.openai.responses.cancel(response["id"])).status == "cancelled"
    async with asyncio.timeout(5):
        await engine.closed.wait()
    assert (await retrieved(a, response["id"]))["status"] == "cancelled"


async def test_what_runs_is_not_lost_because_redis_was_away(
    start_router: StartRouter,
    in_redis: ResponsesConfig,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.3)
    monkeypatch.setattr(failover, "_PERIOD_S", 0.02)
    monkeypatch.setattr(failover, "RECOVERY_S", 1.0)
    monkeypatch.setattr(failover, "SILENT_S", 0.6)
    monkeypatch.setattr(redis_store, "_AWAY_S", 0.02)
    a = await start_router(SteeredResponses, responses=in_redis)
    b = await start_router(ResponseEngine, responses=in_redis)
    response = await begun(a)
    engine = await a.asked()
    await with_status(b, response["id"], "in_progress")
    redis.stop()
    await asyncio.sleep(1.0)  # longer than what else counts as lost
    redis.start()
    await asyncio.sleep(0.5)
    engine.proceed()
    assert (await ended(a, response["id"]))["status"] == "completed"
    assert not b.engines[0].received


async def test_an_answer_waits_for_redis_to_come_back(
    start_router: StartRouter,
    in_redis: ResponsesConfig,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.02)
    monkeypatch.setattr(redis_store, "_AWAY_S", 0.02)
    a = await start_router(SteeredResponses, responses=in_redis)
    response = await begun(a)
    engine = await a.asked()
    await with_status(a, response["id"], "in_progress")
    redis.stop()
    engine.proceed()
    await eventually(lambda: "cannot be stored" in caplog.text)
    redis.start()
    assert (await ended(a, response["id"]))["status"] == "completed"
    assert (await scrape(a))['stored_responses_total{result="stored"}'] == 1


async def test_without_redis_only_what_needs_it_fails(
    start_router: StartRouter,
    in_redis: ResponsesConfig,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(redis_store, "_AWAY_S", 0.02)
    redis.stop()  # also while the router starts
    router = await start_router(ResponseEngine, responses=in_redis)
    response = await create(router, input="a prompt")
    assert response.status_code == 200
    assert "could not be stored" in response.headers["x-request-warnings"]
    await created(router, stream=True)
    await created(router, store=False)
    chat = await router.http.post(CHAT, json={"model": MODEL, "messages": MESSAGES})
    assert chat.status_code == 200
    for answer in (
        await router.http.get(f"{PATH}/resp_1"),
        await router.http.delete(f"{PATH}/resp_1"),
        await router.http.get(f"{PATH}/resp_1/input_items"),
        await router.http.post(f"{PATH}/resp_1/cancel"),
        await create(router, previous_response_id="resp_1"),
        await create(router, background=True),
    ):
        error = error_of(answer, 503)
        assert (error["code"], error["type"]) == (
            "response_store_failed",
            "service_unavailable_error",
        )
        assert answer.headers["retry-after"]
    assert (await scrape(router))['stored_responses_total{result="failed"}'] == 8
    logged = [record.getMessage() for record in caplog.records if "stored" in record.getMessage()]
    assert len(logged) == 1
    assert "prompt" not in caplog.text and redis.password not in caplog.text
    redis.start()

    async def is_stored() -> bool:
        return "x-request-warnings" not in (await create(router)).headers

    async with asyncio.timeout(5):
        while not await is_stored():
            pass
