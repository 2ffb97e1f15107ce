"""Errors before an answer begins, amid its stream, and those of an engine that is dead."""

import json
from typing import Any

import httpx
import pytest
from vllm.exceptions import VLLMUnprocessableEntityError
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from serving.engine.access import AccessMiddleware
from serving.engine.image_file import MediaError
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
    events_of,
)
from tests.engine.fake_llm import CONTEXT_TOKENS, FakeLlm, Part, ids
from tests.support.reading import RULES

OPENAI = [path for path in BODIES if path != MESSAGES]
SCHEMA: dict[str, dict[str, Any]] = {
    CHAT: {"response_format": {"type": "json_object"}},
    COMPLETIONS: {"response_format": {"type": "json_object"}},
    RESPONSES: {"text": {"format": {"type": "json_object"}}},
    MESSAGES: {
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    },
}


PARAMETERS = {
    CHAT: "tools[1].function.parameters",
    RESPONSES: "tools[1].parameters",
    MESSAGES: "tools[1].input_schema",
}


def tools_with(path: str, schema: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Returns two tools of that API, the second with a parameter of this schema."""
    name = "input_schema" if path == MESSAGES else "parameters"
    parameters = {"type": "object", "properties": {"x": schema}}
    tools = [{"name": "f", name: {"type": "object"}}, {"name": "g", name: parameters, **fields}]
    if path == CHAT:
        return [{"type": "function", "function": tool} for tool in tools]
    return [{"type": "function"} | tool if path == RESPONSES else tool for tool in tools]


def roomy() -> FakeLlm:
    """Returns an engine with a context for tools."""
    engine = FakeLlm()
    engine.model_config.max_model_len = 10 * CONTEXT_TOKENS
    return engine


def error_of(response: httpx.Response) -> tuple[int, str, Any, Any]:
    """Returns status, type, param and code after checking the envelope."""
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return response.status_code, error["type"], error["param"], error["code"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 0}, "n", "invalid_value"),
        ({"n": []}, "n", "invalid_type"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"logit_bias": {"1": 5}, "top_p": 7}, "top_p", "invalid_value"),
        ({"min_tokens": CONTEXT_TOKENS}, None, "invalid_value"),
        ({"max_tokens": CONTEXT_TOKENS + 1}, "max_tokens", "invalid_value"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_invalid_requests_are_told_the_field(
    path: str, fields: dict[str, Any], param: str | None, code: str, stream: bool
) -> None:
    if "min_tokens" in fields:
        fields = fields | {"max_tokens": CONTEXT_TOKENS}
    response = await asked(FakeLlm(), path, stream=stream, **fields)
    status, kind, found, found_code = error_of(response)
    assert (status, kind, found_code) == (400, "invalid_request_error", code)
    assert param is None or found == param
    assert "parameter=" not in response.json()["error"]["message"]


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_is_no_json(path: str) -> None:
    response = await asked(FakeLlm(), path, content=b"{")
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"] == "The request body is not valid JSON: Input data was truncated."


USER = {"role": "user", "content": "Hi"}
RESULT = {"type": "function_call_output", "call_id": "a", "output": "r"}
FUNCTION: dict[str, Any] = {"type": "function", "name": "f", "parameters": {}}
INSIDE = ("input_value", "pydantic", "errors for", "sys.", "expected str instance", "NoneType")


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        # What mistral_common finds wrong with messages and tools, on the APIs that do not check it.
        (RESPONSES, {"input": [RESULT, RESULT]}, "input"),
        (
            RESPONSES,
            {"tools": [FUNCTION | {"parameters": {"type": "objekt"}}]},
            "tools[0].parameters",
        ),
        # What vLLM's parameters of sampling refuse.
        (CHAT, {"frequency_penalty": 3}, "frequency_penalty"),
        (CHAT, {"presence_penalty": -3}, "presence_penalty"),
        (CHAT, {"top_k": -5}, "top_k"),
        (CHAT, {"bad_words": [""]}, "bad_words"),
        (CHAT, {"min_tokens": CONTEXT_TOKENS}, "min_tokens"),
        (CHAT, {"vllm_xargs": {"a": 2**70}}, "vllm_xargs"),
        (CHAT, {"vllm_xargs": {"kv_transfer_params": {"do_remote_prefill": True}}}, "vllm_xargs"),
        (CHAT, {"repetition_detection": {"max_pattern_size": 3}}, "repetition_detection"),
        (CHAT, {"truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        (COMPLETIONS, {"prompt": [9999]}, "prompt"),
        (COMPLETIONS, {"prompt": [[1], [9999]]}, "prompt"),
        (COMPLETIONS, {"prompt": "x" * 500}, "prompt"),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 500}]}, "messages"),
        (RESPONSES, {"input": "x" * 500}, "input"),
    ],
)
async def test_what_vllm_and_its_tokenizer_refuse_names_the_clients_field(
    path: str, fields: dict[str, Any], param: str
) -> None:
    response = await asked(FakeLlm(), path, **fields)
    assert error_of(response)[::2] == (400, param)
    message = response.json()["error"]["message"]
    assert "\n" not in message and not any(word in message for word in INSIDE)


@pytest.mark.parametrize(
    "error", [TypeError("sequence item 0: expected str instance"), ValueError("use sys.f()")]
)
async def test_what_nobody_foresaw_in_a_prompt_tells_nothing_of_the_inside(
    error: Exception,
) -> None:
    engine = FakeLlm()
    engine.renderer.error = error
    response = await asked(engine, CHAT)
    assert error_of(response) == (400, "invalid_request_error", "messages", "invalid_value")
    assert not any(word in response.text for word in INSIDE)


async def test_a_rejected_image_is_told_by_its_place_in_the_clients_request() -> None:
    url = "data:image/png;base64,AAAA"
    engine = FakeLlm()
    engine.renderer.error = MediaError("The image in a data URL cannot be used.", url)
    part = {"type": "image_url", "image_url": {"url": url}}
    item = {"type": "input_image", "image_url": url}
    block = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
    }
    text, late = {"type": "text", "text": "?"}, {"role": "system", "content": "s"}
    messages = [
        USER,
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [text, part]},
    ]
    for path in (CHAT, "/tokenize"):
        response = await asked(engine, path, messages=[*messages, late, USER])
        assert error_of(response)[::2] == (400, "messages[2].content[1].image_url")
        assert error_of(response)[3] == "invalid_value"
        assert response.json()["error"]["message"].startswith("messages[2].content[1]: The image")
    response = await asked(engine, RESPONSES, input=[{"role": "user", "content": [item]}])
    assert error_of(response)[2:] == ("input[0].content[0].image_url", "invalid_value")
    assert response.json()["error"]["message"].startswith("input[0].content[0]: The image")
    call = {"type": "function_call", "call_id": "c", "name": "view", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c", "output": [item]}
    response = await asked(engine, RESPONSES, input=[USER, call, result])
    assert error_of(response)[2:] == ("input[2].output[0].image_url", "invalid_value")
    for path in (MESSAGES, f"{MESSAGES}/count_tokens"):
        response = await asked(
            engine, path, messages=[{"role": "user", "content": [block]}], model=NAMES[0]
        )
        assert response.json()["error"]["message"].startswith("messages[0].content[0]: The image")


@pytest.mark.parametrize("path", BODIES)
async def test_a_model_that_is_not_here(path: str) -> None:
    response = await asked(FakeLlm(), path, model="other")
    assert response.status_code == 404
    assert "'other'" in response.json()["error"]["message"]
    if path in OPENAI:
        assert response.json()["error"]["code"] == "model_not_found"
    for name in NAMES:
        assert (await asked(FakeLlm(), path, model=name)).status_code == 200


@pytest.mark.parametrize("length", [CONTEXT_TOKENS, CONTEXT_TOKENS + 1, 10 * CONTEXT_TOKENS])
async def test_a_prompt_that_is_too_long(length: int) -> None:
    engine = FakeLlm()
    response = await asked(engine, COMPLETIONS, prompt=[7] * length)
    status, kind, _, code = error_of(response)
    assert (status, kind, code) == (400, "invalid_request_error", "context_length_exceeded")
    assert engine.calls == []
    fits = await asked(engine, COMPLETIONS, prompt=[7] * (CONTEXT_TOKENS - 1))
    assert fits.status_code == 200


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_conversation_that_is_too_long_is_told_in_its_apis_words(path: str) -> None:
    async def failed(content: str) -> tuple[int, str]:
        message = {"role": "user", "content": content}
        response = await asked(FakeLlm(), path, messages=[message])
        return response.status_code, response.json()["error"]["message"]

    counted = await asked(FakeLlm(), f"{MESSAGES}/count_tokens", **BODIES[MESSAGES])
    around = counted.json()["input_tokens"] - len(ids("Hi"))
    # vLLM refuses the first; the second leaves no token for the answer.
    for tokens, maximum in ((CONTEXT_TOKENS + 50, CONTEXT_TOKENS), (CONTEXT_TOKENS,) * 2):
        text = "".join("01"[i % 2] for i in range(tokens - around))
        assert len(ids(text)) == tokens - around
        status, message = await failed(text)
        assert status == 400
        if path == MESSAGES:
            most = min(maximum, tokens - 1)
            assert message == f"prompt is too long: {tokens} tokens > {most} maximum"
        else:
            assert message.startswith("This model's maximum context length is")


async def test_the_field_of_a_prompt_that_fills_the_context_has_the_clients_name() -> None:
    for path, field in ((CHAT, "messages"), (COMPLETIONS, "prompt"), (RESPONSES, "input")):
        around = (await asked(FakeLlm(), path)).json()["usage"]
        before = around.get("prompt_tokens", around.get("input_tokens")) - len(ids("Hi"))
        text: Any = "".join("01"[i % 2] for i in range(CONTEXT_TOKENS - before))
        value: Any = [{"role": "user", "content": text}] if path == CHAT else text
        filling: dict[str, Any] = {field: value}
        assert error_of(await asked(FakeLlm(), path, **filling))[2:] == (
            field,
            "context_length_exceeded",
        )


@pytest.mark.parametrize(
    "error", [MediaError("The image is damaged."), VLLMUnprocessableEntityError("It is damaged.")]
)
async def test_an_image_that_cannot_be_had(error: Exception) -> None:
    engine = FakeLlm()
    engine.renderer.error = error
    response = await asked(engine, CHAT)
    assert error_of(response)[::3] == (400, "invalid_value")
    assert error_of(response)[2] == (
        "messages" if isinstance(error, VLLMUnprocessableEntityError) else None
    )
    assert response.json()["error"]["message"] == str(error)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("inside"), EngineGenerateError("inside")])
async def test_a_failure_of_the_engine_tells_nothing_of_its_inside(
    error: Exception, stream: bool
) -> None:
    response = await asked(FakeLlm([error]), CHAT, stream=stream)
    assert error_of(response) == (500, "server_error", None, "request_failed")
    assert "inside" not in response.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/nowhere"), ("GET", CHAT), ("POST", "/health"), ("POST", CHAT + "/")],
)
async def test_what_is_not_here(method: str, path: str) -> None:
    response = await asked(FakeLlm(), path, method)
    assert error_of(response)[0] == 404


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"messages": 5}])
async def test_messages_have_anthropics_envelope(fields: dict[str, Any]) -> None:
    response = await asked(FakeLlm(), MESSAGES, **fields)
    assert response.status_code == 400
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert "messages" in body["error"]["message"] or "max_tokens" in body["error"]["message"]
    failed = await asked(FakeLlm([RuntimeError()]), MESSAGES)
    assert (failed.status_code, failed.json()["error"]["type"]) == (500, "api_error")


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


FOREIGN: list[dict[str, Any]] = [
    {"type": "string", "pattern": r"^\p{L}{1,3}$"},
    {"type": "string", "pattern": r"^(?<y>\d{4})$"},
    {"type": "object", "patternProperties": {r"^\p{L}$": {"type": "string"}}},
    {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
    {"type": "boolean", "description": None},
    {"type": "array", "items": None},
]


@pytest.mark.parametrize("schema", FOREIGN)
@pytest.mark.parametrize("path", PARAMETERS)
async def test_a_schema_of_another_draft_or_dialect_ends_no_request(
    path: str, schema: dict[str, Any]
) -> None:
    engine = roomy()
    response = await asked(engine, path, tools=tools_with(path, schema))
    assert response.status_code == 200, response.text
    (chat,) = engine.renderer.chats
    shown = json.dumps(chat.chat_template_kwargs["tools"][1])
    expressions = [schema.get("pattern"), *schema.get("patternProperties", ())]
    assert all(json.dumps(one)[1:-1] in shown for one in expressions if one is not None)


@pytest.mark.parametrize("schema", FOREIGN)
async def test_a_strict_schema_of_another_dialect_is_enforced(schema: dict[str, Any]) -> None:
    engine = roomy()
    response = await asked(engine, CHAT, tools=tools_with(CHAT, schema, strict=True))
    assert response.status_code == 200, response.text
    grammar = engine.calls[0].params.structured_outputs.grammar
    assert "x-pattern" not in grammar
    if "pattern" in schema:
        assert json.dumps(schema["pattern"]) in grammar


@pytest.mark.parametrize("path", PARAMETERS)
async def test_a_schema_that_is_wrong_in_every_draft_is_named(path: str) -> None:
    tools = tools_with(path, {"type": "objekt"})
    response = await asked(FakeLlm(), path, tools=tools)
    assert response.status_code == 400
    error = response.json()["error"]
    assert f"{PARAMETERS[path]}.properties.x.type" in error["message"]
    assert "'objekt'" in error["message"]
    if path in OPENAI:
        assert (error["param"], error["code"]) == (PARAMETERS[path], "invalid_value")


@pytest.mark.parametrize(
    ("path", "content", "place"),
    [
        (
            CHAT,
            [{"type": "image_url", "image_url": {"url": ""}}],
            "messages[0].content[0].image_url.url must be a string that is not empty.",
        ),
        (MESSAGES, [], "messages[0].content must not be empty: no message has any content."),
        (
            MESSAGES,
            [{"type": "text", "text": ""}],
            "messages[0].content must not be empty: no message has any content.",
        ),
    ],
)
async def test_what_is_empty_is_named(path: str, content: Any, place: str) -> None:
    response = await asked(FakeLlm(), path, messages=[{"role": "user", "content": content}])
    assert response.status_code == 400
    assert response.json()["error"]["message"] == place


@pytest.mark.parametrize("name", ["a.b", "a b", "é", "", "é" * 129])
@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
async def test_a_wrong_name_of_a_tool_is_told_with_what_the_api_takes(path: str, name: str) -> None:
    schema = {"type": "object"}
    tool: Any = {"name": name, "input_schema": schema}
    if path == RESPONSES:
        tool = {"type": "function", "name": name, "parameters": schema}
    engine = FakeLlm()
    response = await asked(engine, path, tools=[tool])
    assert response.status_code == 400 and not engine.calls
    message = response.json()["error"]["message"]
    if path == RESPONSES and not name:
        assert message == "tools[0].name must be a string."
    else:
        assert message == (
            "tools[0].name must be a string of 1 to 128 letters, digits, underscores and dashes."
        )
