"""Responses that a router runs in the background."""

import asyncio
import json
from typing import Any

import pytest
from openai.types.responses import Response

from serving.config import ResponsesConfig
from serving.mistral import ModelRules
from serving.router.replicas.backend import Backend
from serving.router.replicas.model import Model
from serving.router.responses import failover, runs
from tests.router.responses.test_stored_responses import PATH, create, created, sent, texts
from tests.router.telemetry.test_metrics import scrape
from tests.router.test_app import error_of
from tests.support.engines import Refuses, ResetsBeforeHead
from tests.support.live_router import IMPATIENT, MODEL, LiveRouter, StartRouter
from tests.support.response_engine import RepeatingResponses, ResponseEngine, SteeredResponses
from tests.support.waiting import eventually


async def begun(router: LiveRouter, **fields: Any) -> dict[str, Any]:
    """Begins a response, and returns it as it was answered at once."""
    response = await create(router, background=True, **fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    Response.model_validate(body, strict=True)
    assert (body["status"], body["background"], body["output"]) == ("queued", True, [])
    return body


async def retrieved(router: LiveRouter, response_id: str) -> dict[str, Any]:
    response = await router.http.get(f"{PATH}/{response_id}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    Response.model_validate(body, strict=True)
    assert body["id"] == response_id
    return body


async def with_status(router: LiveRouter, response_id: str, *statuses: str) -> dict[str, Any]:
    """Returns the response once it has one of these statuses."""
    async with asyncio.timeout(5):
        while True:
            body = await retrieved(router, response_id)
            if body["status"] in statuses:
                return body


async def ended(router: LiveRouter, response_id: str) -> dict[str, Any]:
    return await with_status(router, response_id, "completed", "failed", "cancelled", "incomplete")


async def test_it_is_queued_then_in_progress_then_completed(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    response = await begun(router, instructions="Be brief.", metadata={"a": "b"})
    assert (response["instructions"], response["metadata"]) == ("Be brief.", {"a": "b"})
    engine = await router.asked()
    await with_status(router, response["id"], "in_progress")
    assert not router.lines
    engine.proceed()
    done = await ended(router, response["id"])
    assert (done["status"], done["background"]) == ("completed", True)
    assert texts(done["output"]) == ["Hello!"]
    await eventually(lambda: router.lines)
    (line,) = map(json.loads, router.lines)
    assert (line["outcome"], line["status"], line["output_tokens"]) == ("answered", 200, 2)
    assert (await scrape(router))['stored_responses_total{result="stored"}'] == 1


async def test_it_repeats_what_the_final_response_repeats(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(RepeatingResponses, responses=stored)
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    asked: dict[str, Any] = {
        "tools": [{"type": "web_search"}, function],
        "frequency_penalty": 0.5,
        "reasoning": {"effort": "low", "more": 1},
        "temperature": "0.5",
        "max_output_tokens": 50,
        "previous_response_id": (await created(router, input="One"))["id"],
    }
    response = await begun(router, **asked)
    assert response["tools"] == [function]
    assert (response["frequency_penalty"], response["presence_penalty"]) == (0.5, 0.0)
    assert response["max_output_tokens"] == 50
    done = await ended(router, response["id"])
    changing = {"status", "output", "usage"}
    assert response.keys() == done.keys()
    assert {name for name in done if done[name] != response[name]} == changing


async def test_another_servers_response_tells_at_once_what_it_is_sent(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    rules = ModelRules(MODEL, "v11", 1000, 0, sampling={"temperature": 0.15}, other_server=True)
    model = Model(MODEL, (), rules, Backend("http://other.test/v1", MODEL, 1000))
    router = await start_router(ResponseEngine, models=[model], responses=stored)
    custom = {"type": "custom", "name": "sh"}
    response = await begun(router, tools=[custom], temperature=None)
    assert (response["temperature"], response["top_p"]) == (0.15, 1.0)
    assert response["tools"] == [{**custom, "format": {"type": "text"}}]
    await ended(router, response["id"])
    assert sent(router)["temperature"] == 0.15


async def test_it_continues_and_is_continued(router: LiveRouter) -> None:
    first = await created(router, input="One")
    second = await begun(router, input="Two", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    await ended(router, second["id"])
    await created(router, input="Three", previous_response_id=second["id"])
    assert texts(sent(router)["input"]) == ["One", "Hello!", "Two", "Hello!", "Three"]
    items = (await router.http.get(f"{PATH}/{second['id']}/input_items")).json()["data"]
    assert texts(items) == ["Two"]


async def test_one_that_has_not_ended_is_not_continued(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    response = await begun(router)
    engine = await router.asked()
    error = error_of(await create(router, previous_response_id=response["id"]), 400)
    assert error["param"] == "previous_response_id"
    engine.proceed()
    await ended(router, response["id"])


async def test_the_sdk_cancels_it_and_the_engine_is_told(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    response = await router.openai.responses.create(model=MODEL, input="Hi", background=True)
    engine = await router.asked()
    cancelled = await router.openai.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    async with asyncio.timeout(5):
        await engine.closed.wait()
    assert (await router.openai.responses.cancel(response.id)).status == "cancelled"
    assert (await retrieved(router, response.id))["status"] == "cancelled"
    error = error_of(await create(router, previous_response_id=response.id), 400)
    assert "cancelled" in error["message"]


async def test_one_that_was_cancelled_or_deleted_at_another_router_ends(
    start_router: StartRouter, stored: ResponsesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.02)
    router = await start_router(SteeredResponses, responses=stored)
    other = await start_router(ResponseEngine, responses=stored)
    for method, path in (("POST", "/cancel"), ("DELETE", "")):
        response = await begun(router)
        engine = await router.asked()
        await with_status(other, response["id"], "in_progress")
        answer = await other.http.request(method, f"{PATH}/{response['id']}{path}")
        assert answer.status_code == 200
        async with asyncio.timeout(5):
            await engine.closed.wait()


async def test_a_deleted_one_stays_deleted(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    response = await begun(router)
    engine = await router.asked()
    await router.http.delete(f"{PATH}/{response['id']}")
    await engine.closed.wait()
    await eventually(lambda: router.lines)
    error_of(await router.http.get(f"{PATH}/{response['id']}"), 404)


async def test_only_responses_in_the_background_are_cancelled(router: LiveRouter) -> None:
    response = await created(router)
    error_of(await router.http.post(f"{PATH}/{response['id']}/cancel"), 400)
    error_of(await router.http.post(f"{PATH}/resp_no/cancel"), 404)


async def test_cancelling_what_has_ended_returns_it(router: LiveRouter) -> None:
    response = await begun(router)
    done = await ended(router, response["id"])
    cancelled = await router.http.post(f"{PATH}/{response['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()) == (200, done)


async def test_another_replica_answers_if_one_is_killed(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(ResetsBeforeHead, ResponseEngine, responses=stored)
    for _ in range(3):
        response = await begun(router)
        assert (await ended(router, response["id"]))["status"] == "completed"
    await eventually(lambda: len(router.lines) == 3)
    assert sum(json.loads(line)["retries"] for line in router.lines)


async def test_an_engine_killed_during_it_gives_its_place_to_another(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, SteeredResponses, responses=stored)
    response = await begun(router)
    asked = [asyncio.create_task(router.asked(engine)) for engine in (0, 1)]
    (first,), (waiting,) = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    first.result().reset()
    (await waiting).proceed()
    assert (await ended(router, response["id"]))["status"] == "completed"


async def test_it_fails_where_a_client_that_waits_gets_an_error(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(Refuses, responses=stored, **IMPATIENT)
    response = await begun(router)
    done = await ended(router, response["id"])
    assert done["status"] == "failed" and done["error"]["code"] in (
        "server_error",
        "rate_limit_exceeded",
    )
    assert done["error"]["message"]


async def test_a_client_that_leaves_does_not_end_it(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    headers = {"connection": "close", "x-request-timeout": "0.01"}
    response = await begun(router, headers=headers)
    engine = await router.asked()
    await with_status(router, response["id"], "in_progress")
    engine.proceed()
    assert (await ended(router, response["id"]))["status"] == "completed"


async def test_an_invalid_request_is_answered_at_once(router: LiveRouter) -> None:
    error_of(await create(router, background=True, model="no"), 404)
    error_of(await create(router, background=True, input=[]), 400)
    error_of(await create(router, background=True, previous_response_id="resp_no"), 404)


@pytest.fixture
def fails_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failover, "SILENT_S", 0.5)  # a busy disk is silent for 0.1 s
    monkeypatch.setattr(failover, "RECOVERY_S", 0.0)
    monkeypatch.setattr(failover, "_PERIOD_S", 0.02)
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.02)


@pytest.mark.usefixtures("fails_over_at_once")
async def test_one_that_its_router_left_goes_on_at_another(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    other = await start_router(ResponseEngine, responses=stored)
    assert router.responses is not None
    response = await begun(router, instructions="Be brief.", metadata={"a": "b"})
    engine = await router.asked()
    await with_status(router, response["id"], "in_progress")
    await router.responses.runs.drain(0.01)
    await engine.closed.wait()
    done = await ended(other, response["id"])
    assert (done["status"], texts(done["output"])) == ("completed", ["Hello!"])
    assert done["created_at"] == response["created_at"]
    assert done["output"][0]["id"].startswith(response["id"].replace("resp_", "msg_"))
    assert sent(other)["instructions"] == "Be brief."
    await eventually(lambda: other.lines)
    (left,), (line,) = (map(json.loads, lines) for lines in (router.lines, other.lines))
    assert (line["outcome"], line["request_id"]) == ("answered", left["request_id"])


@pytest.mark.usefixtures("fails_over_at_once")
async def test_one_that_no_router_can_go_on_with_has_failed(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    other = await start_router(ResponseEngine, responses=stored)
    assert router.responses is not None
    first = await created(other)
    response = await begun(router, previous_response_id=first["id"])
    await router.asked()
    await router.http.delete(f"{PATH}/{first['id']}")
    await router.responses.runs.drain(0.01)
    done = await ended(other, response["id"])
    assert (done["status"], done["error"]["code"]) == ("failed", "invalid_prompt")
    assert first["id"] in done["error"]["message"]


async def test_a_router_that_stops_waits(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    assert router.responses is not None
    response = await begun(router)
    engine = await router.asked()
    draining = asyncio.create_task(router.responses.runs.drain(5))
    await with_status(router, response["id"], "in_progress")
    assert not draining.done()
    engine.proceed()
    await draining
    assert (await retrieved(router, response["id"]))["status"] == "completed"
