"""Streams of clients that wait: what keeps their connections alive, and how they end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from serving.placement import Capacity
from serving.router.proxy import waiting
from tests.router.test_app import error_of
from tests.support.engines import Engine, ResetsAfterHead, Steered
from tests.support.http_server import json_response
from tests.support.live_router import CHAT, IMPATIENT, MODEL, LiveRouter, StartRouter
from tests.support.storyteller import STORY, breaking, resets
from tests.support.waiting import eventually

ONE_AT_A_TIME = Capacity(kv_cache_tokens=100_000, max_num_seqs=1)
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Tell a story."}]}
MESSAGES = "/v1/messages"
COMMENT = ": waiting"


@pytest.fixture(autouse=True)
def short_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PERIOD_S", 0.02)


class Client:
    """The reader of a stream, with what it has received so far."""

    def __init__(self, router: LiveRouter, path: str = CHAT, **fields: Any) -> None:
        self.text = ""
        self.is_whole = False
        self.response: httpx.Response
        self._request = router.http.build_request(
            "POST", path, json={"model": MODEL, "stream": True, "max_tokens": 9} | ASK | fields
        )
        self._reading = asyncio.create_task(self._read(router.http))

    async def _read(self, http: httpx.AsyncClient) -> None:
        self.response = await http.send(self._request, stream=True)
        with contextlib.suppress(httpx.RemoteProtocolError):
            async for text in self.response.aiter_text():
                self.text += text
            self.is_whole = True

    async def has_waited(self) -> None:
        """Returns once the client has received two further comments."""
        before = self.text.count(COMMENT)
        await eventually(lambda: self.text.count(COMMENT) >= before + 2)

    async def events(self) -> list[str]:
        """Returns all events of the stream when it has ended, without comments."""
        await self._reading
        return [one for one in self.text.split("\n\n") if one and one != COMMENT]


@contextlib.asynccontextmanager
async def busy(router: LiveRouter) -> AsyncIterator[Steered]:
    """Has the only engine busy with another request."""
    running = asyncio.create_task(router.chat())
    connection = await router.asked()
    yield connection
    connection.proceed()
    await running


async def test_a_stream_that_waits_in_the_queue_has_comments_then_its_events(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME)
    async with busy(router):
        client = Client(router)
        await client.has_waited()
    connection = await router.asked()
    await client.has_waited()  # while the engine reads the prompt
    connection.proceed()
    events = await client.events()
    assert client.is_whole
    assert events[-1] == "data: [DONE]"
    assert len([json.loads(one.removeprefix("data: ")) for one in events[:-1]]) > 2
    head = client.response.headers
    assert (client.response.status_code, head["content-type"], head["x-accel-buffering"]) == (
        200,
        "text/event-stream; charset=utf-8",
        "no",
    )
    assert json.loads(router.lines[-1])["request_id"] == head["x-request-id"]


async def test_a_stream_that_does_not_wait_has_none(
    start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "PERIOD_S", 1000)
    router = await start_router(Engine)
    client = Client(router)
    events = await client.events()
    assert COMMENT not in client.text
    assert events[-1] == "data: [DONE]"
    assert client.response.headers["x-accel-buffering"] == "no"


async def test_openais_client_reads_over_the_comments(start_router: StartRouter) -> None:
    router = await start_router(Steered)
    messages: Any = ASK["messages"]
    asking = asyncio.create_task(
        router.openai.chat.completions.create(model=MODEL, messages=messages, stream=True)
    )
    connection = await router.asked()
    stream = await asking  # as soon as a comment has come
    connection.proceed()
    assert [chunk.choices[0].finish_reason async for chunk in stream][-1] == "length"


async def test_a_later_refusal_is_an_event_and_no_proper_end(start_router: StartRouter) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME, max_waiting=1, max_wait_s=600)
    async with busy(router):
        client = Client(router)
        await client.has_waited()
        urgent = asyncio.create_task(router.chat({"x-priority": "9"}))
        (event,) = await client.events()
        error = json.loads(event.removeprefix("data: "))["error"]
        assert (error["code"], error["type"]) == ("queue_full", "rate_limit_error")
        assert "Try again in" in error["message"]
        assert not client.is_whole
        await eventually(lambda: router.lines)
        line = json.loads(router.lines[0])
        assert (line["outcome"], line["error"], line["status"]) == ("refused", "queue_full", 429)
    (await router.asked()).proceed()
    await urgent


async def test_a_request_that_is_not_streamed_keeps_its_honest_status(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME, max_waiting=2, max_wait_s=600)
    async with busy(router):
        beside = Client(router)
        whole = asyncio.create_task(router.chat({"x-priority": "1"}))
        await beside.has_waited()
        urgent = asyncio.create_task(router.chat({"x-priority": "9"}))
        response = await whole
        assert error_of(response, 429)["code"] == "queue_full"
        assert int(response.headers["retry-after"]) >= 1
    for answer in (urgent, beside.events()):
        (await router.asked()).proceed()
        await answer


async def test_the_clients_raise_a_later_refusal(start_router: StartRouter) -> None:
    router = await start_router(**IMPATIENT)
    messages: Any = ASK["messages"]
    stream = await router.openai.chat.completions.create(
        model=MODEL, messages=messages, stream=True
    )
    with pytest.raises(openai.APIError, match="No replica"):
        [chunk async for chunk in stream]
    async with anthropic.AsyncAnthropic(
        base_url=router.url, api_key="the-clients-key", max_retries=0
    ) as client:
        events = await client.messages.create(
            model=MODEL, messages=messages, max_tokens=9, stream=True
        )
        with pytest.raises(anthropic.APIStatusError, match="No replica") as error:
            [event async for event in events]
    body: Any = error.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "overloaded_error")
    assert body["request_id"] == error.value.request_id == events.response.headers["request-id"]


@pytest.mark.parametrize(
    ("path", "event"),
    [
        (CHAT, 'data: {"error": '),
        ("/v1/responses", 'event: error\ndata: {"type": "error", "sequence_number": 0, '),
        (MESSAGES, 'event: error\ndata: {"type": "error", "error": {"type": "invalid_request_'),
    ],
)
async def test_an_engines_own_error_after_a_comment_is_an_event(
    start_router: StartRouter, path: str, event: str
) -> None:
    router = await start_router(Steered)
    client = Client(router, path, input="x")
    connection = await router.asked()
    await client.has_waited()
    error = {"message": "too long", "type": "BadRequestError", "param": None, "code": 400}
    connection.transport.write(json_response({"error": error}, 400))
    (said,) = await client.events()
    assert said.startswith(event)
    assert "too long" in said
    assert not client.is_whole
    await eventually(lambda: router.lines)
    line = json.loads(router.lines[0])
    assert (line["outcome"], line["status"]) == ("answered", 400)


async def test_another_replica_answers_after_a_comment(start_router: StartRouter) -> None:
    router = await start_router(Steered, Engine, placement="round_robin")
    client = Client(router)
    connection = await router.asked()
    await client.has_waited()
    connection.reset()
    assert (await client.events())[-1] == "data: [DONE]"
    assert client.is_whole
    await eventually(lambda: router.lines)
    assert json.loads(router.lines[0])["retries"] == 1


async def test_if_all_replicas_fail_the_stream_ends_with_an_error(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, *[ResetsAfterHead] * 3, placement="round_robin")
    client = Client(router)
    connection = await router.asked()
    await client.has_waited()
    connection.reset()
    (event,) = await client.events()
    error = json.loads(event.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("server_error", "replicas_failed")
    assert not client.is_whole


async def test_a_stream_that_waits_for_its_continuation_has_comments_between_its_events(
    start_router: StartRouter,
) -> None:
    router = await start_router(breaking(3, resets), breaking(100, resets))
    first, second = router.infos
    router.directory.update(MODEL, [first])
    client = Client(router, max_tokens=len(STORY))
    await eventually(lambda: router.engines[0].requests)
    router.directory.update(MODEL, [])
    await client.has_waited()
    router.directory.update(MODEL, [second])
    events = await client.events()
    assert client.is_whole
    said = [json.loads(one.removeprefix("data: ")) for one in events[:-1]]
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in said)
    assert text == "".join(STORY)
