"""Errors and answers of other OpenAI servers behind the router, as a stand-in gives them."""

import contextlib
import json
from typing import Any

import httpx
import pytest

from serving.mistral import ModelRules
from serving.router.replicas.backend import Backend
from serving.router.replicas.model import Model
from tests.support.engines import Engine
from tests.support.http_server import response
from tests.support.live_router import CHAT, MESSAGES, LiveRouter, StartRouter
from tests.support.stand_in_engine import STREAM_HEAD, chunk

NAME = "mistral-small:24b-instruct-2501-q8_0"
BODY: dict[str, Any] = {"model": NAME, "messages": MESSAGES}


class Other(Engine):
    """Gives each request the answer that the test has set."""

    status = 200
    answered: bytes = b""

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(response(self.answered, self.status))


class Streaming(Engine):
    """Streams the events that the test has set, each in a chunk of its own."""

    events: tuple[bytes, ...] = ()

    def respond(self, request: dict[str, Any]) -> None:
        self.transport.write(STREAM_HEAD + b"".join(map(chunk, self.events)) + b"0\r\n\r\n")


async def routing_to(
    start_router: StartRouter, behaviour: type[Engine], **attributes: Any
) -> LiveRouter:
    rules = ModelRules(NAME, "v7", 1000, image_limit=0, other_server=True)
    model = Model(NAME, ("small",), rules, Backend("http://other.test:11434/v1", NAME, 1000))
    return await start_router(type("Other", (behaviour,), attributes), models=[model])


async def asked(
    start_router: StartRouter, status: int, answer: bytes, **fields: Any
) -> tuple[LiveRouter, int, dict[str, Any]]:
    """Returns the router, and the status and body of its answer."""
    router = await routing_to(start_router, Other, status=status, answered=answer)
    answered = await router.chat(model=NAME, **fields)
    return router, answered.status_code, answered.json()


@pytest.mark.parametrize(
    ("status", "answer", "clients_status", "message"),
    [
        (
            200,
            b'{"error":"Unexpected endpoint or method. (POST /chat/completions)"}',
            404,
            "Unexpected endpoint or method. (POST /chat/completions)",
        ),
        (200, b'{"error":{"message":"The model crashed."}}', 502, "The model crashed."),
        (400, b'{"error":"Invalid tool_choice type"}', 400, "Invalid tool_choice type"),
        (400, b'{"detail":"Client closed request"}', 400, "Client closed request"),
        (404, b"404 page not found", 404, "The engine answered with status 404."),
        (
            404,
            b'{"error":{"message":"model \'x\' not found","type":"not_found_error","code":null}}',
            404,
            "model 'x' not found",
        ),
        (
            503,
            b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}',
            503,
            "Loading model",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_its_errors_have_openais_form_and_the_status_that_they_mean(
    start_router: StartRouter,
    status: int,
    answer: bytes,
    clients_status: int,
    message: str,
    stream: bool,
) -> None:
    _, got, body = await asked(start_router, status, answer, stream=stream)
    assert got == clients_status
    assert body["error"]["message"] == message
    assert body["error"].keys() == {"message", "type", "param", "code"}


TOO_LONG = (
    "This model's maximum context length is 10 tokens. However, your prompt contains 12 input "
    "tokens, which exceeds this limit even without any output tokens."
)


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_clients_know_a_prompt_that_is_too_long(
    start_router: StartRouter, stream: bool
) -> None:
    answer = json.dumps({"error": {"message": TOO_LONG, "code": 400}}).encode()
    router = await routing_to(start_router, Other, status=400, answered=answer)
    body = BODY | {"max_tokens": 5, "stream": stream}
    response = await router.http.post("/v1/messages", json=body)
    assert response.status_code == 400
    assert response.json() == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "prompt is too long: 12 tokens > 10 maximum",
        },
        "request_id": response.headers["request-id"],
    }
    assert (await router.http.post(CHAT, json=BODY)).json()["error"]["message"] == TOO_LONG


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_it_rejects_is_no_fault_of_the_client(
    start_router: StartRouter, status: int
) -> None:
    router, got, body = await asked(start_router, status, b'{"error":{"message":"Bad key sk-1"}}')
    assert (got, body["error"]["code"]) == (502, "backend_key_rejected")
    assert "api_key_env" in body["error"]["message"] and "sk-1" not in body["error"]["message"]
    assert len(router.engines[0].received) == 1


FIRST = b'data: {"choices":[{"index":0,"delta":{"content":"He"},"finish_reason":null}]}\n\n'
LAST = b'data: {"choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize(
    ("events", "complete"),
    [
        ([FIRST, LAST, b"data: [DONE]\n\n"], True),
        ([FIRST, LAST], True),
        ([FIRST, b"data: [DONE]\n\n"], True),
        ([FIRST], False),
        ([FIRST, b": ping\n\n"], False),
        ([FIRST.replace(b"He", rb"\ndata: [DONE]\n\"finish_reason\": \"")], False),
    ],
)
async def test_a_stream_that_ends_before_the_answer_cannot_be_taken_for_complete(
    start_router: StartRouter, events: list[bytes], complete: bool
) -> None:
    router = await routing_to(start_router, Streaming, events=events)
    async with router.http.stream("POST", CHAT, json=BODY | {"stream": True}) as response:
        received = b""
        with contextlib.suppress(httpx.RemoteProtocolError):
            async for piece in response.aiter_bytes():
                received += piece
    assert response.status_code == 200
    assert received.startswith(b"".join(events))
    assert (b"replica_failed" in received) is not complete


async def test_a_stream_without_an_event_is_an_error(start_router: StartRouter) -> None:
    router = await routing_to(start_router, Streaming, events=[])
    response = await router.http.post(CHAT, json=BODY | {"stream": True})
    assert (response.status_code, response.json()["error"]["code"]) == (502, "no_answer")
    assert len(router.engines[0].received) == 1


async def test_what_it_calls_has_an_id(start_router: StartRouter) -> None:
    call = {"id": "", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    answer = {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    _, status, body = await asked(start_router, 200, json.dumps(answer).encode(), tools=[tool])
    (choice,) = body["choices"]
    assert (status, choice["finish_reason"]) == (200, "tool_calls")
    assert len(choice["message"]["tool_calls"][0]["id"]) == 9


async def test_a_name_with_a_colon_is_found_as_clients_write_it(start_router: StartRouter) -> None:
    router, _, _ = await asked(start_router, 200, b"{}")
    for name in (NAME, "small"):
        found = await router.http.get(f"/v1/models/{name}")
        assert found.json()["id"] == NAME
