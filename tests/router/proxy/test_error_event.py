"""Streams that an engine ends with an error event, in the form that each API has for it."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from serving.answers.events import Step, Text, Usage
from serving.encoders.chat import ChatEncoder
from serving.encoders.completions import CompletionEncoder
from serving.encoders.encoder import Encoder
from serving.encoders.messages import MessagesEncoder
from serving.encoders.responses import ResponsesEncoder
from serving.requests import chat, completions, messages, responses
from serving.router.proxy.error_event import EngineError, error_mark, raise_engine_error
from tests.support.engines import UNAVAILABLE, Engine, Steered
from tests.support.live_router import MODEL, LiveRouter, StartRouter
from tests.support.reading import READING
from tests.support.waiting import eventually

_HELLO = [{"role": "user", "content": "Hello"}]
APIS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "/v1/chat/completions": (chat.read, ChatEncoder, {"messages": _HELLO}),
    "/v1/completions": (completions.read, CompletionEncoder, {"prompt": "Hello"}),
    "/v1/responses": (responses.read, ResponsesEncoder, {"input": "Hello"}),
    "/v1/messages": (messages.read, MessagesEncoder, {"messages": _HELLO, "max_tokens": 9}),
}
SAYS_SO = 'data: {"error": {"code": 500}}\n\nevent: error\ndata: {"type": "error", "code": 500}\n\n'
each_api = pytest.mark.parametrize("path", APIS)


def body(path: str) -> dict[str, Any]:
    return {"model": MODEL, "stream": True, **APIS[path][2]}


def encoder(path: str) -> Encoder:
    read, written, _ = APIS[path]
    _, options = read(json.dumps(body(path)).encode(), *READING)
    made: Encoder = written(options, "resp_1", 1, MODEL, Usage(prompt_tokens=1))
    return made


def stream(path: str, status: int) -> Iterator[bytes]:
    """Yields the pieces of a stream that ends with an error of that HTTP status."""
    answer = encoder(path)
    yield answer.begin() + answer.step(0, Step([Text(SAYS_SO)]))
    yield answer.step(0, Step([Text("more")]))
    yield answer.error("The reason.", status)


async def answer(router: LiveRouter, path: str, *pieces: bytes) -> tuple[str, bool]:
    """Sends pieces of a stream through the router, all but the first once the client has that one.
    Returns what the client got, and whether the stream ended properly."""
    request = router.http.build_request("POST", path, json=body(path))
    answering = asyncio.create_task(router.http.send(request, stream=True))
    connection = await router.asked()
    connection.begin_stream(pieces[0])
    response = await answering
    parts = response.aiter_raw()
    got = await anext(parts)
    for piece in pieces[1:]:
        connection.send(piece)
    connection.end_stream()
    try:
        async for part in parts:
            got += part
    except httpx.RemoteProtocolError:
        return got.decode(), False
    finally:
        await response.aclose()
    return got.decode(), True


@each_api
async def test_an_engine_that_fails_on_a_request_stays_and_the_request_is_blamed(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(Steered, Engine)
    for _ in range(5):
        begin, *rest = stream(path, 500)
        got, complete = await answer(router, path, begin, *rest)
        assert got.startswith(begin.decode())
        assert "The engine failed on this request but serves others" in got.split("\n\n")[-2]
        assert not complete
        assert not router.directory.models[MODEL].replicas[0].health.ejected
    assert [engine.requests for engine in router.engines] == [5, 0]
    await eventually(lambda: len(router.lines) == 5)
    assert {json.loads(line)["outcome"] for line in router.lines} == {"invalid"}


@each_api
async def test_the_requests_own_error_is_relayed_as_it_is(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(Steered, Engine)
    pieces = list(stream(path, 400))
    assert await answer(router, path, *pieces) == (b"".join(pieces).decode(), True)
    assert not router.directory.models[MODEL].replicas[0].health.ejected
    assert router.engines[1].requests == 0


async def test_the_error_of_a_response_goes_on_with_its_numbers_and_is_raised_by_openais_client(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    request = router.openai.responses.create(model=MODEL, input="Hello", stream=True)
    asking = asyncio.create_task(request)
    connection = await router.asked()
    begin, more, error = stream("/v1/responses", 500)
    connection.begin_stream(begin)
    events = await asking
    numbers = [(await anext(events)).sequence_number for _ in range(begin.count(b"\n\n"))]
    connection.send(more)
    numbers.append((await anext(events)).sequence_number)
    connection.send(error)
    with pytest.raises(openai.APIError, match="serves others") as raised:
        await anext(events)
    await events.close()
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["code"] == "request_failed"
    assert numbers == list(range(len(numbers)))

    got, _ = await answer(router, "/v1/responses", begin, error)
    said = json.loads(got.split("data: ")[-1])
    assert (said["type"], said["sequence_number"]) == ("error", begin.count(b"\n\n"))


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
async def test_a_dead_engine_is_ejected_and_its_stream_cannot_look_complete(
    start_router: StartRouter, path: str
) -> None:
    class Dead(Steered):
        def answer_health(self) -> None:
            self.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")

    router = await start_router(Dead, Engine)
    got, complete = await answer(router, path, *stream(path, 503))
    assert not complete
    assert "its engine does not tell its tokens" in got.split("\n\n")[-2]
    assert router.directory.models[MODEL].replicas[0].health.ejected
    assert router.engines[1].requests == 0


@each_api
@pytest.mark.parametrize("status", [400, 404, 429, 500, 502, 503, 504])
def test_a_status_tells_whose_fault_it_is(path: str, status: int) -> None:
    event, mark = encoder(path).error("The reason.", status), error_mark(path)
    assert mark in event
    if status < 500:
        raise_engine_error(event, mark)
    else:
        with pytest.raises(EngineError):
            raise_engine_error(event, mark)


@each_api
@pytest.mark.parametrize("data", [b"{", b"[]", b"1", b'{"error"', b'{"error": 1}', b"{}"])
def test_what_cannot_be_read_is_no_engines_error(path: str, data: bytes) -> None:
    for mark in (b"", b"event: error\n"):
        raise_engine_error(mark + b"data: " + data, error_mark(path))
