"""Requests that cannot be answered, and what their clients are told."""

from typing import Any

import pytest
from vllm.exceptions import VLLMUnprocessableEntityError

from serving.engine.image_file import MediaError
from tests.engine.asking import (
    BODIES,
    CHAT,
    COMPLETIONS,
    MESSAGES,
    NAMES,
    OPENAI,
    RESPONSES,
    asked,
    error_of,
)
from tests.engine.fake_llm import CONTEXT_TOKENS, FakeLlm, ids


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
