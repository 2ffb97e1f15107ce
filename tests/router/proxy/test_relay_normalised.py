"""Requests that are normalised on their way to a backend, and answers that are converted back."""

import asyncio
import json
from typing import Any

import pytest

from serving.mistral.normalise import RULES
from serving.router.http.openapi import RELAYED
from tests.router.test_app import error_of
from tests.support.engines import Engine, Refuses, Steered
from tests.support.live_router import (
    MAX_MODEL_LEN,
    MODEL,
    ON_BACKEND,
    LiveRouter,
    StartRouter,
)
from tests.support.stand_in_engine import OK_HEAD
from tests.support.waiting import eventually

DONE = b"data: [DONE]\n\n"
CALL = {"id": "call_1-2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FOREIGN_IDS: list[Any] = [
    {"role": "user", "content": "?"},
    {"role": "assistant", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1-2", "content": "42"},
]


def chunk_event(finish_reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def sent(router: LiveRouter, engine: int = 0) -> Any:
    return json.loads(router.engines[engine].received[0].body)


@pytest.fixture
async def backend(start_router: StartRouter) -> LiveRouter:
    return await start_router(Engine, models=[ON_BACKEND])


async def test_a_backend_is_sent_the_normalised_body_with_its_length(backend: LiveRouter) -> None:
    response = await backend.chat(max_tokens=131072, messages=FOREIGN_IDS)
    assert response.status_code == 200
    (received,) = backend.engines[0].received
    assert received.header(b"content-length") == b"%d" % len(received.body)
    body = sent(backend)
    assert body["max_tokens"] == MAX_MODEL_LEN
    assert body["messages"][2]["tool_call_id"] == body["messages"][1]["tool_calls"][0]["id"]
    assert body["messages"][2]["tool_call_id"] != "call_1-2"


async def test_changes_are_reported_to_the_client(backend: LiveRouter) -> None:
    response = await backend.chat(max_tokens=131072, chat_template_kwargs={"a": "a secret"})
    assert response.headers["x-max-tokens-clamped"] == str(MAX_MODEL_LEN)
    assert "chat_template_kwargs" in response.headers["x-request-warnings"]
    assert "secret" not in response.headers["x-request-warnings"]
    plain = await backend.chat(max_tokens=5)
    assert not {"x-max-tokens-clamped", "x-request-warnings"} & set(plain.headers)


async def test_another_replica_gets_the_same_body(start_router: StartRouter) -> None:
    router = await start_router(Refuses, Engine, models=[ON_BACKEND])
    response = await router.chat(max_tokens=131072)
    assert response.headers["x-replica"] == "replica-1"
    assert sent(router, 1)["max_tokens"] == MAX_MODEL_LEN


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"chat_template": "{{ a secret }}"}, "chat_template"),
        ({"reasoning_format": "a secret"}, "reasoning_format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}] * 2}]}, "messages"),
    ],
)
async def test_what_cannot_be_meant_is_a_400_before_any_engine(
    backend: LiveRouter, fields: dict[str, Any], param: str
) -> None:
    error = error_of(await backend.chat(**fields), 400)
    assert error["param"] == param and "secret" not in error["message"]
    assert backend.engines[0].requests == 0


async def test_separated_reasoning_of_a_whole_answer(start_router: StartRouter) -> None:
    router = await start_router(Steered, models=[ON_BACKEND])
    answer, connection = await router.begin(reasoning_format="separate")
    message = {"role": "assistant", "content": "<think>\n3+4\n</think>\nSeven."}
    body = json.dumps({"choices": [{"index": 0, "message": message}]}).encode()
    connection.transport.write(
        OK_HEAD % b"application/json" + b"content-length: %d\r\n\r\n" % len(body) + body
    )
    response = await answer
    message = response.json()["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == ("3+4", "Seven.")
    assert response.headers["content-length"] == str(len(response.content))
    assert "reasoning_format" not in sent(router)


async def test_separated_reasoning_of_a_stream_comes_event_by_event(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, models=[ON_BACKEND])
    answer = asyncio.create_task(router.open_stream(reasoning_format="separate"))
    connection = await router.asked()
    connection.begin_stream(chunk_event(role="assistant", content=""))
    chunks = (await answer).aiter_raw()
    assert await anext(chunks) == chunk_event(role="assistant", content="")
    thought, text = chunk_event(content="<think>so"), chunk_event(content="</think>Seven.")
    connection.send(thought[:20])
    connection.send(thought[20:])
    thought = json.loads((await anext(chunks))[6:])["choices"][0]["delta"]
    assert thought == {"reasoning": "so", "reasoning_content": "so"}
    connection.send(text + DONE[:3])
    assert json.loads((await anext(chunks))[6:])["choices"][0]["delta"] == {"content": "Seven."}
    connection.send(DONE[3:])
    assert await anext(chunks) == DONE
    connection.end_stream()
    assert [chunk async for chunk in chunks] == []


async def test_a_stream_that_breaks_in_an_event_ends_with_the_error_alone(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, models=[ON_BACKEND])
    connection, response = await router.begun_stream(
        chunk_event(content="Seven."), b'data: {"half an', reasoning_format="separate"
    )
    chunks = response.aiter_raw()
    assert await anext(chunks) == chunk_event(content="Seven.")
    connection.transport.close()
    last = await anext(chunks)
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "replica_failed"
    await response.aclose()


async def test_an_engines_error_speaks_of_the_clients_ids(start_router: StartRouter) -> None:
    router = await start_router(Steered, models=[ON_BACKEND])
    answer, connection = await router.begin(messages=FOREIGN_IDS)
    new_id = connection.request["messages"][2]["tool_call_id"]
    body = json.dumps({"error": {"message": f"Unexpected tool call id {new_id}"}}).encode()
    connection.transport.write(
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(body) + body
    )
    assert error_of_engine(await answer) == "Unexpected tool call id call_1-2"


def error_of_engine(response: Any) -> str:
    assert response.status_code == 400
    return str(response.json()["error"]["message"])


async def test_our_own_engines_get_the_very_bytes(router: LiveRouter) -> None:
    body = b'{"model": "%b", "chat_template": "x", "max_tokens": 99999} ' % MODEL.encode()
    for path in sorted(RELAYED):
        assert (await router.http.post(path, content=body)).status_code == 200
    assert [received.body for received in router.engines[0].received] == [body] * len(RELAYED)


async def test_what_an_engine_says_that_it_changed_is_logged_and_told(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered)
    answer, connection = await router.begin()
    connection.transport.write(
        b"HTTP/1.1 200 OK\r\nx-rewrites: max_tokens_clamped,warned,unheard-of\r\n"
        b"x-max-tokens-clamped: 9\r\nx-request-warnings: x was dropped\r\ncontent-length: 0\r\n\r\n"
    )
    headers = (await answer).headers
    assert (headers["x-max-tokens-clamped"], headers["x-request-warnings"]) == (
        "9",
        "x was dropped",
    )
    assert "x-rewrites" not in headers
    await eventually(lambda: bool(router.lines))
    assert json.loads(router.lines[0])["rewrites"] == ["max_tokens_clamped", "warned"]


def test_every_path_with_rules_is_one_that_the_router_relays() -> None:
    assert set(RULES) < RELAYED
