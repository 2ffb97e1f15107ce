"""The endpoints that generate nothing."""

from typing import Any

import pytest
from openai.types import Model
from openai.types.responses import InputTokenCountResponse
from vllm.v1.engine.exceptions import EngineDeadError

from tests.engine.asking import BODIES, CHAT, MESSAGES, NAMES, RESPONSES, asked
from tests.engine.fake_llm import CONTEXT_TOKENS, FakeLlm, ids, mistral_tokenizer
from tests.engine.tools import TOOL

MESSAGE = {"messages": BODIES[CHAT]["messages"]}


def prompt(tools: Any = None) -> list[int]:
    tokenizer = mistral_tokenizer()
    return list(tokenizer.apply_chat_template(BODIES[CHAT]["messages"], tools=tools))


async def test_health() -> None:
    engine = FakeLlm()
    response = await asked(engine, "/health", "GET")
    assert (response.status_code, response.content) == (200, b"")
    engine.errored = True
    with pytest.raises(EngineDeadError):
        await asked(engine, "/health", "GET")


async def test_metrics_have_those_of_this_process() -> None:
    response = await asked(FakeLlm(), "/metrics", "GET")
    assert response.status_code == 200
    assert 'mistral_serve_loop_stops_total{model_name="the-model"}' in response.text


async def test_models() -> None:
    body = (await asked(FakeLlm(), "/v1/models", "GET")).json()
    assert body["object"] == "list"
    assert [one["id"] for one in body["data"]] == NAMES
    for one in body["data"]:
        Model.model_validate(one, strict=True)
        assert one["max_model_len"] == CONTEXT_TOKENS


async def test_the_tokens_of_a_text() -> None:
    response = await asked(FakeLlm(), "/tokenize", prompt="Hé")
    tokens = [1, *ids("Hé")]
    assert response.json() == {
        "count": len(tokens),
        "max_model_len": CONTEXT_TOKENS,
        "tokens": tokens,
        "token_strs": None,
    }
    without = await asked(FakeLlm(), "/tokenize", prompt="Hé", add_special_tokens=False)
    assert without.json()["tokens"] == tokens[1:]
    names = (await asked(FakeLlm(), "/tokenize", prompt="Hi", return_token_strs=True)).json()
    assert names["token_strs"] == ["<s>", "H", "i"]


@pytest.mark.parametrize("tools", [None, [TOOL]])
async def test_the_tokens_of_a_chat_are_those_of_its_prompt(tools: Any) -> None:
    fields = MESSAGE | ({"tools": tools} if tools else {})
    response = await asked(FakeLlm(), "/tokenize", **fields)
    assert response.json()["tokens"] == prompt(tools)
    engine = FakeLlm()
    await asked(engine, CHAT, **fields)
    assert engine.calls[0].prompt["prompt_token_ids"] == prompt(tools)


@pytest.mark.parametrize("null", [{}, {"description": None, "strict": None}])
async def test_the_tokens_of_a_chat_have_its_tools_as_the_prompt_has(null: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {**TOOL["function"], **null}}  # type: ignore[dict-item]
    response = await asked(FakeLlm(), "/tokenize", **MESSAGE, tools=[tool])
    assert response.json()["tokens"] == prompt([TOOL])


async def test_texts_longer_than_the_context_are_counted_too() -> None:
    long = "x" * (2 * CONTEXT_TOKENS)
    assert (await asked(FakeLlm(), "/tokenize", prompt=long)).json()["count"] == len(long) + 1
    messages = [{"role": "user", "content": long}]
    response = await asked(FakeLlm(), f"{MESSAGES}/count_tokens", messages=messages)
    assert response.json()["input_tokens"] > len(long)


async def test_the_text_of_tokens() -> None:
    response = await asked(FakeLlm(), "/detokenize", tokens=[1, *ids("Hé")])
    assert response.json() == {"prompt": "<s>Hé"}


@pytest.mark.parametrize("token", [-1, 400, 10**9])
async def test_tokens_that_are_none(token: int) -> None:
    response = await asked(FakeLlm(), "/detokenize", tokens=[1, token])
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("tokens", "invalid_value")
    assert "0 and 399" in error["message"]


async def test_the_tokens_of_a_message_are_counted() -> None:
    response = await asked(FakeLlm(), f"{MESSAGES}/count_tokens", **MESSAGE)
    assert response.json() == {"input_tokens": len(prompt())}
    engine = FakeLlm()
    await asked(engine, MESSAGES)
    assert len(engine.calls[0].prompt["prompt_token_ids"]) == len(prompt())


async def test_the_tokens_of_a_response_are_counted() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    fields: dict[str, Any] = {"input": "Hi", "instructions": "Be brief.", "tools": [function]}
    counted = await asked(FakeLlm(), f"{RESPONSES}/input_tokens", **fields)
    InputTokenCountResponse.model_validate(counted.json(), strict=True)
    response = (await asked(FakeLlm(), RESPONSES, **fields)).json()
    assert counted.json()["input_tokens"] == response["usage"]["input_tokens"] > len(prompt())
    long = await asked(FakeLlm(), f"{RESPONSES}/input_tokens", input="x" * 2 * CONTEXT_TOKENS)
    assert long.json()["input_tokens"] > 2 * CONTEXT_TOKENS
    wrong = await asked(FakeLlm(), f"{RESPONSES}/input_tokens", input=5)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(
    ("path", "fields"), [("/tokenize", {"prompt": "Hi"}), ("/detokenize", {"tokens": [1]})]
)
async def test_a_model_that_is_not_here_has_no_tokens(path: str, fields: dict[str, Any]) -> None:
    assert (await asked(FakeLlm(), path, **fields, model="alias")).status_code == 200
    response = await asked(FakeLlm(), path, **fields, model="other")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_messages_to_a_model_that_is_not_here_are_not_counted() -> None:
    path = f"{MESSAGES}/count_tokens"
    assert (await asked(FakeLlm(), path, **MESSAGE, model="alias")).status_code == 200
    response = await asked(FakeLlm(), path, **MESSAGE, model="other")
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(("path", "param"), [("/tokenize", "prompt"), ("/detokenize", "tokens")])
async def test_requests_without_what_they_are_about(path: str, param: str) -> None:
    response = await asked(FakeLlm(), path)
    assert response.status_code == 400
    error = await asked(FakeLlm(), f"{MESSAGES}/count_tokens")
    assert (error.status_code, error.json()["type"]) == (400, "error")
