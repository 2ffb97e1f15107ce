"""Engines that fail: before an answer, amid it, or for good."""

from typing import Any

import pytest
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from serving.engine.access import AccessMiddleware
from serving.engine.last_steps import EngineDeathError
from serving.engine.vllm.front_end import FrontEnd
from tests.engine.asking import (
    BODIES,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    NAMES,
    RESPONSES,
    Exchange,
    asked,
    error_of,
    events_of,
)
from tests.engine.fake_llm import FakeLlm, Part, ids
from tests.support.reading import RULES

SCHEMA: dict[str, dict[str, Any]] = {
    CHAT: {"response_format": {"type": "json_object"}},
    COMPLETIONS: {"response_format": {"type": "json_object"}},
    RESPONSES: {"text": {"format": {"type": "json_object"}}},
    MESSAGES: {
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    },
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("inside"), EngineGenerateError("inside")])
async def test_a_failure_of_the_engine_tells_nothing_of_its_inside(
    error: Exception, stream: bool
) -> None:
    response = await asked(FakeLlm([error]), CHAT, stream=stream)
    assert error_of(response) == (500, "server_error", None, "request_failed")
    assert "inside" not in response.text


@pytest.mark.parametrize("path", BODIES)
async def test_an_answer_that_cannot_obey_its_constraint_is_the_requests_fault(path: str) -> None:
    answer = [Part([], "error")]
    response = await asked(FakeLlm(answer), path, **SCHEMA[path])
    assert response.status_code == 400
    assert "cannot be constrained" in response.json()["error"]["message"]
    assert (await asked(FakeLlm(answer), path)).status_code == 500
    begun = [Part(ids("{")), *answer]
    stream = await asked(FakeLlm(begun), path, **SCHEMA[path], stream=True)
    assert stream.status_code == 200
    assert "cannot be constrained" in stream.text


@pytest.mark.parametrize(
    ("answer", "fields", "status"),
    [
        ([Part(ids("{")), RuntimeError("inside")], {}, 500),
        ([Part(ids("{")), Part([], "abort")], {}, 500),
        ([Part(ids("{")), Part([], "error")], {}, 500),
        ([Part(ids("{")), Part([], "error")], SCHEMA[CHAT], 400),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_that_fails_ends_with_an_error_of_integer_code(
    path: str, answer: Any, fields: dict[str, Any], status: int, n: int
) -> None:
    engine = FakeLlm(answer, [Part(ids("b")), "waits"])
    response = await asked(engine, path, stream=True, n=n, **fields)
    assert response.status_code == 200
    *_, last = events_of(response.text)
    assert last["error"]["code"] == status
    assert last["error"]["type"] == ("server_error" if status == 500 else "invalid_request_error")
    assert response.text.endswith("data: [DONE]\n\n")
    assert "inside" not in response.text
    assert [call.aborted for call in engine.calls[1:]] == [True] * (n - 1)


async def test_other_streams_that_fail_end_in_their_own_form() -> None:
    answer = [Part(ids("a")), RuntimeError("inside")]
    message = await asked(FakeLlm(answer), MESSAGES, stream=True)
    assert events_of(message.text)[-1]["error"]["type"] == "api_error"
    response = await asked(FakeLlm(answer), RESPONSES, stream=True)
    error, failed = events_of(response.text)[-2:]
    assert (error["type"], error["code"]) == ("error", "server_error")
    assert failed["type"] == "response.failed"
    assert "inside" not in message.text + response.text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
async def test_an_engine_that_dies_before_the_answer_lets_another_serve_the_request(
    path: str, stream: bool
) -> None:
    engine, exchange = FakeLlm([EngineDeadError()]), Exchange(path, {"stream": stream})
    app = FrontEnd(engine, NAMES, RULES, None)
    with pytest.raises(EngineDeathError):
        await app(exchange.scope, exchange.receive, exchange.send)
    assert exchange.sent == []
    engine.errored, engine.answers = False, [[], [EngineDeadError()]]
    app = FrontEnd(engine, NAMES, RULES, None)
    access = AccessMiddleware(app, "token", lambda: "crash" if engine.errored else None)
    again = Exchange(path, {"stream": stream})
    scope = again.scope | {"headers": [(b"authorization", b"Bearer token")]}
    await access(scope, again.receive, again.send)
    assert again.sent[0]["status"] == 503
    assert (b"x-engine-unavailable", b"dead") in again.sent[0]["headers"]
    assert (b"x-engine-death", b"crash") in again.sent[0]["headers"]
    assert (b"x-engine-suspects", b"1") in again.sent[0]["headers"]


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_of_an_engine_that_dies_has_no_end(n: int) -> None:
    answers = [[Part(ids("a")), EngineDeadError()]] * n
    exchange = Exchange(CHAT, {"stream": True, "n": n})
    app = AccessMiddleware(FrontEnd(FakeLlm(*answers), NAMES, RULES, None), "token", lambda: None)
    scope = exchange.scope | {"headers": [(b"authorization", b"Bearer token")]}
    with pytest.raises(EngineDeathError):
        await app(scope, exchange.receive, exchange.send)
    assert exchange.sent[0]["status"] == 200
    assert not exchange.ended
    assert "error" not in exchange.body and "[DONE]" not in exchange.body
