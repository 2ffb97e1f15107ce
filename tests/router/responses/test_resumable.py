"""Streams of responses in the background, which a client resumes at any router."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.config import ResponsesConfig
from serving.router.responses import runs
from serving.router.responses.store import StoreError
from tests.router.proxy.test_stopped_router import server_of
from tests.router.responses.test_background import (
    begun,
    ended,
    fails_over_at_once,
    retrieved,
    with_status,
)
from tests.router.responses.test_stored_responses import PATH, create, created, sent, texts
from tests.router.test_app import error_of
from tests.support.live_router import IMPATIENT, MODEL, LiveRouter, StartRouter
from tests.support.response_engine import CountingResponses, ResponseEngine, SteeredResponses, event
from tests.support.waiting import eventually

__all__ = ["fails_over_at_once"]

TOKENS = 20
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


async def begin(openai: AsyncOpenAI, tokens: int = TOKENS, **fields: Any) -> Any:
    return await openai.responses.create(
        model=MODEL, input="Hi", background=True, stream=True, max_output_tokens=tokens, **fields
    )


async def resume(openai: AsyncOpenAI, response_id: str, after: int) -> Any:
    return await openai.responses.retrieve(response_id, stream=True, starting_after=after)


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in stream]


async def first_of(stream: Any, count: int) -> list[Any]:
    """Reads so many events, and leaves."""
    events = []
    async for one in stream:
        events.append(one)
        if len(events) == count:
            break
    await stream.close()
    return events


def check(events: list[Any], tokens: int = TOKENS) -> Response:
    """Checks that these are all events of a whole answer, once each; returns the response."""
    assert [one.sequence_number for one in events] == list(range(len(events)))
    kinds = [one.type.removeprefix("response.") for one in events]
    assert kinds[:3] == ["created", "queued", "in_progress"]
    assert kinds[3:5] == ["output_item.added", "content_part.added"]
    assert kinds[-1] == "completed" and len(events) == tokens + 9
    deltas = [one.delta for one in events if one.type == "response.output_text.delta"]
    assert "".join(deltas) == CountingResponses.text(tokens)
    response = events[-1].response
    assert isinstance(response, Response)
    assert response.output_text == CountingResponses.text(tokens)
    assert {one.response.id for one in events if hasattr(one, "response")} == {response.id}
    assert response.output[0].id == response.id.replace("resp_", "msg_") + "00"
    return response


async def test_the_sdk_streams_it_and_reads_it_again(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(CountingResponses, responses=stored)
    events = await all_of(await begin(router.openai, metadata={"a": "b"}))
    response = check(events)
    for one in events:
        EVENT.validate_json(one.to_json(), strict=True)
    assert response.background and response.metadata == {"a": "b"}
    assert await router.openai.responses.retrieve(response.id) == response
    for after in (-1, 0, 7, len(events) - 2, len(events) - 1, 1000):
        again = await all_of(await resume(router.openai, response.id, after))
        assert again == events[after + 1 :]
    (line,) = map(json.loads, router.lines)
    assert (line["outcome"], line["stream"], line["output_tokens"]) == ("answered", True, TOKENS)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, TOKENS])
async def test_a_client_that_breaks_off_gets_the_rest_at_another_router(
    start_router: StartRouter, stored: ResponsesConfig, count: int
) -> None:
    a = await start_router(CountingResponses, responses=stored)
    b = await start_router(ResponseEngine, responses=stored)
    events = await first_of(await begin(a.openai), count)
    response_id = events[0].response.id
    while events[-1].type != "response.completed":
        router = b if len(events) % 2 else a
        events += await first_of(await resume(router.openai, response_id, len(events) - 1), 7)
    response = check(events)
    assert await b.openai.responses.retrieve(response_id) == response
    assert not b.engines[0].received


async def test_several_clients_read_along(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    a = await start_router(CountingResponses, responses=stored)
    b = await start_router(ResponseEngine, responses=stored)
    first = await anext(stream := await begin(a.openai))
    others = [
        asyncio.create_task(all_of(await resume(router.openai, first.response.id, 0)))
        for router in (a, b, b)
    ]
    events = [first, *await all_of(stream)]
    check(events)
    for other in others:
        assert await other == events[1:]


async def test_it_has_its_id_while_it_is_queued(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(responses=stored, **IMPATIENT)
    events = await all_of(await begin(router.openai))
    kinds = [one.type for one in events]
    assert kinds == ["response.created", "response.queued", "response.failed"]
    assert [one.response.status for one in events[:2]] == ["queued", "queued"]
    failed = events[-1].response
    assert failed.status == "failed" and failed.error.message
    assert await router.openai.responses.retrieve(failed.id) == failed


async def test_an_engine_that_fails_in_it_ends_it_with_a_typed_event(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    reading = asyncio.create_task(all_of(await begin(router.openai)))
    engine = await router.asked()
    delta = event("response.output_text.delta", delta="Hel", output_index=0)
    engine.begin_stream(event("response.created", response={}), delta)
    await eventually(lambda: router.engines[0].connections)
    engine.reset()
    events = await reading
    assert [one.sequence_number for one in events] == list(range(len(events)))
    assert [one.type for one in events[2:]] == [
        "response.in_progress",
        "response.output_text.delta",
        "response.failed",
    ]
    assert events[-1].response.error.code == "server_error"


async def test_another_servers_events_are_numbered(router: LiveRouter) -> None:
    """The stand-in gives all of them the number 0, as some servers do."""
    events = await all_of(await begin(router.openai))
    assert [one.sequence_number for one in events] == list(range(5))
    assert events[-1].response.output_text == "Hello!"
    following = await created(router, input="Two", previous_response_id=events[0].response.id)
    assert following["previous_response_id"] == events[0].response.id
    assert texts(sent(router)["input"]) == ["Hi", "Hello!", "Two"]


async def test_it_is_cancelled_from_another_router(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    a = await start_router(SteeredResponses, responses=stored)
    b = await start_router(ResponseEngine, responses=stored)
    first = await anext(stream := await begin(a.openai))
    engine = await a.asked()
    response_id = first.response.id
    along = asyncio.create_task(all_of(await resume(b.openai, response_id, -1)))
    assert (await b.openai.responses.cancel(response_id)).status == "cancelled"
    assert [one.type for one in await all_of(stream)][:1] == ["response.queued"]
    kinds = [one.type for one in await along]
    assert kinds[:2] == ["response.created", "response.queued"] and len(kinds) <= 3
    async with asyncio.timeout(5):
        await engine.closed.wait()
    assert (await a.openai.responses.retrieve(response_id)).status == "cancelled"


async def test_one_that_becomes_too_large_ends(start_router: StartRouter, tmp_path: Any) -> None:
    small = ResponsesConfig(folder=str(tmp_path), max_bytes=20_000)
    router = await start_router(CountingResponses, responses=small)
    events = await all_of(await begin(router.openai, 1000))
    assert events[-1].type == "response.failed"
    assert "too large" in events[-1].response.error.message
    assert len(events) < 200


async def test_it_stalls_and_goes_on_where_the_store_was_away(
    start_router: StartRouter, stored: ResponsesConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SEEN_PERIOD_S", 0.02)
    router = await start_router(CountingResponses, responses=stored)
    assert router.responses is not None
    store = router.responses.runs._store
    failures = 0

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def fails(*arguments: Any) -> Any:
            nonlocal failures
            failures += 1
            if failures < 10:
                raise StoreError("away")
            return call(*arguments)

        return fails

    monkeypatch.setattr(store, "report", failing(store.report))
    monkeypatch.setattr(store, "advance", failing(store.advance))
    check(await all_of(await begin(router.openai)))
    assert failures >= 10


async def test_what_has_no_events_is_not_streamed(router: LiveRouter) -> None:
    response = await created(router)
    background = await begun(router)
    for one in (response, background):
        error = error_of(await router.http.get(f"{PATH}/{one['id']}?stream=true"), 400)
        assert error["param"] == "stream"
    await ended(router, background["id"])


@pytest.mark.parametrize("query", ["stream=maybe", "stream=true&starting_after=x"])
async def test_a_wrong_query_is_rejected(router: LiveRouter, query: str) -> None:
    error = error_of(await router.http.get(f"{PATH}/resp_1?{query}"), 400)
    assert error["param"] in query


async def test_unknown_responses_are_not_streamed(router: LiveRouter) -> None:
    with pytest.raises(openai.NotFoundError):
        await resume(router.openai, "resp_no", 0)
    error_of(await create(router, background=True, stream=True, store=False), 400)
    error_of(await create(router, background=True, stream=True, input=[]), 400)


@pytest.mark.usefixtures("fails_over_at_once")
@pytest.mark.parametrize("count", [4, 6, TOKENS])
async def test_a_stream_that_its_router_left_goes_on_at_another_where_it_was(
    start_router: StartRouter, stored: ResponsesConfig, count: int
) -> None:
    a = await start_router(CountingResponses, responses=stored)
    b = await start_router(CountingResponses, responses=stored)
    assert a.responses is not None
    events = await first_of(await begin(a.openai), count)
    await a.responses.runs.drain(0.01)
    rest = await resume(b.openai, events[0].response.id, count - 1)
    check(events + await all_of(rest))
    await eventually(lambda: b.lines)
    (line,) = map(json.loads, b.lines)
    assert (line["outcome"], line["continued"]) == ("answered", 1)


async def test_a_router_that_is_stopped_leaves_its_stream_to_another(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    router = await start_router(SteeredResponses, responses=stored)
    async with server_of(router) as (server, client):
        url = f"{client.base_url}/v1"
        async with AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as its_client:
            first = await anext(stream := await begin(its_client))
            engine = await router.asked()
            await with_status(router, first.response.id, "in_progress")
            await server.stop(0)
            with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
                await all_of(stream)
        await engine.closed.wait()
    assert (await retrieved(router, first.response.id))["status"] == "in_progress"


async def test_a_router_that_stops_breaks_its_streams_off_and_another_tells_the_rest(
    start_router: StartRouter, stored: ResponsesConfig
) -> None:
    a = await start_router(ResponseEngine, responses=stored)
    b = await start_router(SteeredResponses, responses=stored)
    assert a.responses is not None
    first = await anext(await begin(b.openai))
    engine = await b.asked()
    await with_status(a, first.response.id, "in_progress")
    following = asyncio.create_task(all_of(await resume(a.openai, first.response.id, 0)))
    await a.responses.runs.drain(0.01)
    with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
        await following
    engine.proceed()
    rest = await all_of(await resume(b.openai, first.response.id, 2))
    assert rest[-1].type == "response.completed"
