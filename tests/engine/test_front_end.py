"""Answers of every API, their heads and their ids."""

import asyncio
import json
from typing import Any

import pytest
from anthropic.types import Message
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from vllm.logprobs import Logprob

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
from tests.engine.fake_llm import (
    CONTEXT_TOKENS,
    EOS,
    WAITS,
    FakeLlm,
    Part,
    control,
    ids,
    mistral_tokenizer,
    text,
)
from tests.support.reading import RULES
from tests.support.waiting import eventually

TYPES: dict[str, Any] = {
    CHAT: ChatCompletion,
    COMPLETIONS: Completion,
    RESPONSES: Response,
    MESSAGES: Message,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def text_of(path: str, body: dict[str, Any]) -> str:
    match path:
        case "/v1/chat/completions":
            found = body["choices"][0]["message"]["content"]
        case "/v1/completions":
            found = body["choices"][0]["text"]
        case "/v1/responses":
            found = body["output"][0]["content"][0]["text"]
        case _:
            found = body["content"][0]["text"]
    return str(found)


@pytest.mark.parametrize("path", BODIES)
async def test_every_api_has_its_own_form_of_the_same_answer(path: str) -> None:
    response = await asked(FakeLlm(text("Hello you"), cached_tokens=2), path)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert int(response.headers["content-length"]) == len(response.content)
    body = response.json()
    TYPES[path].model_validate(body, strict=True)
    assert text_of(path, body) == "Hello you"
    assert body["model"] == "the-model"


def streamed_text(path: str, stream: str) -> str:
    pieces = []
    for one in events_of(stream):
        for choice in one.get("choices", ()):
            pieces.append(choice.get("text") or choice.get("delta", {}).get("content") or "")
        if "delta" in one:
            delta = one["delta"]
            pieces.append(delta if isinstance(delta, str) else delta.get("text", ""))
    return "".join(pieces)


@pytest.mark.parametrize("path", BODIES)
async def test_every_api_streams_the_same_answer(path: str) -> None:
    response = await asked(FakeLlm(text("Hello you")), path, stream=True)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed_text(path, response.text) == "Hello you"
    if path in (CHAT, COMPLETIONS):
        assert response.text.endswith("\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(("cached", "told"), [(0, "0"), (2, "2"), (None, "0")])
async def test_the_head_tells_how_long_the_prompt_is_and_how_much_was_cached(
    path: str, stream: bool, cached: int | None, told: str
) -> None:
    engine = FakeLlm(cached_tokens=cached)
    response = await asked(engine, path, stream=stream)
    prompt = engine.calls[0].prompt["prompt_token_ids"]
    assert response.headers["x-prompt-tokens"] == str(len(prompt))
    assert response.headers["x-cached-tokens"] == told


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_prompt_counts_once_with_several_answers(path: str) -> None:
    engine = FakeLlm(cached_tokens=1)
    response = await asked(engine, path, n=3)
    tokens = len(engine.calls[0].prompt["prompt_token_ids"])
    assert response.headers["x-prompt-tokens"] == str(tokens)
    usage = response.json()["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]) == (
        tokens,
        {"cached_tokens": 1},
    )
    assert len(response.json()["choices"]) == len(engine.calls) == 3


async def test_prompts_are_added_up_unless_some_are_unread_when_the_stream_begins() -> None:
    whole = await asked(FakeLlm(cached_tokens=1), COMPLETIONS, prompt=["Hi", "Hello"])
    tokens = len(ids("Hi")) + len(ids("Hello")) + 2
    assert whole.headers["x-prompt-tokens"] == str(tokens)
    assert whole.headers["x-cached-tokens"] == "2"
    exchange = Exchange(COMPLETIONS, {"prompt": ["Hi", "Hello"], "stream": True})
    app = FrontEnd(FakeLlm([WAITS], text("a")), NAMES, RULES, None)
    answering = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await eventually(lambda: exchange.sent)
    names = {name for name, _ in exchange.sent[0]["headers"]}
    assert names == {b"content-type"}
    exchange.leave()
    await answering


@pytest.mark.parametrize(
    ("path", "prefix"),
    [(CHAT, "chatcmpl-"), (COMPLETIONS, "cmpl-"), (RESPONSES, "resp_"), (MESSAGES, "msg_")],
)
async def test_the_requests_id_is_in_the_answers(path: str, prefix: str) -> None:
    engine = FakeLlm()
    response = await asked(engine, path, headers={"x-request-id": "r-7"})
    assert response.json()["id"] == engine.calls[0].id == f"{prefix}r-7"
    others = [(await asked(engine, path)).json()["id"] for _ in range(2)]
    assert others[0] != others[1]
    assert all(other.startswith(prefix) for other in others)


async def test_traces_go_on_in_the_engine() -> None:
    engine, headers = FakeLlm(), {"traceparent": "00-a-b-01", "x-other": "no"}
    await asked(engine, CHAT, headers=headers)
    assert engine.calls[0].trace_headers is None
    engine.traces = True
    await asked(engine, CHAT, headers=headers)
    assert engine.calls[1].trace_headers == {"traceparent": "00-a-b-01"}


async def test_a_requests_parameters_reach_the_engine() -> None:
    engine = FakeLlm()
    await asked(
        engine, CHAT, tools=[TOOL], seed=3, temperature=0.5, priority=4, cache_salt="s", n=2
    )
    assert [call.params.seed for call in engine.calls] == [3, 4]
    first = engine.calls[0]
    assert (first.params.temperature, first.priority) == (0.5, 4)
    assert first.params.structured_outputs.grammar.startswith("start: text")
    assert first.prompt["cache_salt"] == "0:s"
    tokens = mistral_tokenizer().apply_chat_template(BODIES[CHAT]["messages"], tools=[TOOL])
    assert first.prompt["prompt_token_ids"] == tokens


async def test_an_answer_may_fill_the_context() -> None:
    engine = FakeLlm()
    await asked(engine, CHAT)
    call = engine.calls[0]
    assert call.params.max_tokens == CONTEXT_TOKENS - len(call.prompt["prompt_token_ids"])


async def test_a_message_goes_on() -> None:
    engine = FakeLlm(text(" you"))
    messages = [*BODIES[CHAT]["messages"], {"role": "assistant", "content": "Hello"}]
    fields: dict[str, Any] = {
        "continue_final_message": True,
        "add_generation_prompt": False,
        "echo": True,
    }
    response = await asked(engine, CHAT, messages=messages, **fields)
    assert text_of(CHAT, response.json()) == "Hello you"
    template = engine.renderer.chats[0].chat_template_kwargs
    assert template["continue_final_message"] and not template["add_generation_prompt"]


async def test_truncated_prompts() -> None:
    engine = FakeLlm()
    for length, kept in ((2, 2), (-1, CONTEXT_TOKENS - 1)):
        response = await asked(
            engine, COMPLETIONS, prompt=[7] * (CONTEXT_TOKENS + 9), truncate_prompt_tokens=length
        )
        assert response.headers["x-prompt-tokens"] == str(kept)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_alone_has_no_completion_tokens(stream: bool) -> None:
    fields: dict[str, Any] = {"max_tokens": 0, "echo": True, "stream": stream}
    if stream:
        fields["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    response = await asked(FakeLlm(), COMPLETIONS, **fields)
    bodies = events_of(response.text) if stream else [response.json()]
    for usage in (body["usage"] for body in bodies):
        assert usage["completion_tokens"] == 0
        assert usage["total_tokens"] == usage["prompt_tokens"] > 0


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_prompt_is_told_of(path: str, stream: bool) -> None:
    engine = FakeLlm()
    response = await asked(engine, path, return_token_ids=True, stream=stream)
    prompt = engine.calls[0].prompt["prompt_token_ids"]
    bodies = events_of(response.text) if stream else [response.json()]
    told = bodies[0] if path == CHAT else bodies[0]["choices"][0]
    assert told["prompt_token_ids"] == prompt
    found: list[int] = []
    for body in bodies:
        found += body["choices"][0].get("token_ids") or []
    assert found == [*ids("Hello"), EOS]


class Knowing(FakeLlm):
    """Tells the log-probabilities of the prompt."""

    def _output(self, prompt: Any, part: Part) -> Any:
        output = super()._output(prompt, part)
        known = [{token: Logprob(-0.5, 1)} for token in output.prompt_token_ids]
        output.prompt_logprobs = [None, *known[1:]]
        return output


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_prompts_logprobs_are_told(path: str, stream: bool) -> None:
    engine = Knowing()
    response = await asked(engine, path, prompt_logprobs=0, stream=stream)
    bodies = events_of(response.text) if stream else [response.json()]
    told = [
        logprobs
        for body in bodies
        for holder in (body, *body["choices"])
        if (logprobs := holder.get("prompt_logprobs"))
    ]
    assert [one and list(one) for one in told[0]] == [
        None,
        *([str(token)] for token in engine.calls[0].prompt["prompt_token_ids"][1:]),
    ]
    assert len(told) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_repeats_its_prompt_before_each_answer(stream: bool) -> None:
    fields: dict[str, Any] = {"prompt": ["Hi", "Yo"], "n": 2, "echo": True, "stream": stream}
    response = await asked(FakeLlm(text("!"), text("?"), text("!")), COMPLETIONS, **fields)
    texts = [""] * 4
    for body in events_of(response.text) if stream else [response.json()]:
        for choice in body["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == ["Hi!", "Hi?", "Yo!", "YoHello"]


CALL = [control("[TOOL_CALLS]"), *ids("f"), control("[ARGS]"), *ids('{"a": 1, "b": [2')]
"""The tokens of a call that is cut off."""
TOOLS: dict[str, dict[str, Any]] = {
    CHAT: {"tools": [TOOL]},
    RESPONSES: {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
    MESSAGES: {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
}


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("path", TOOLS)
async def test_a_call_that_is_cut_off_is_a_call(path: str, choice: str) -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    given: Any = {"type": "any" if choice == "required" else choice} if path == MESSAGES else choice
    body = (await asked(engine, path, **TOOLS[path], tool_choice=given)).json()
    if path == CHAT:
        (one,) = body["choices"]
        (call,) = one["message"]["tool_calls"]
        assert (one["finish_reason"], one["message"]["content"]) == ("length", None)
        assert call["function"] == {"name": "f", "arguments": '{"a": 1, "b": [2'}
        assert len(call["id"]) == 9 and call["id"].isalnum()
    elif path == RESPONSES:
        (call,) = body["output"]
        assert (body["status"], call["status"]) == ("incomplete", "incomplete")
        assert (call["name"], call["arguments"]) == ("f", '{"a": 1, "b": [2')
    else:
        (block,) = body["content"]
        assert body["stop_reason"] == "max_tokens"
        assert (block["name"], block["input"]) == ("f", {"a": 1, "b": [2]})


@pytest.mark.parametrize(
    ("client", "cache", "whole"),
    [
        ("mistral-client-python/3.7.0", "", True),
        ("langchain4j-mistral-ai", "", True),
        ("ai-sdk/mistral/3.0.51 ai-sdk/provider-utils/4.0.40 runtime/bun/1.3.14", "", True),
        ("ai-sdk/openai/3.0.141 ai-sdk/provider-utils/4.0.66 runtime/bun/1.3.14", "", False),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.40 runtime/bun/1.3.14", "", True),
        ("Semantic-Kernel", "", True),
        ("Semantic-Kernel OpenAI/2.2.0 (.NET 8.0.16; Ubuntu 24.04.2 LTS)", "", False),
        ("python-httpx/0.28.1", "no-store", True),
        ("python-httpx/0.28.1", "", False),
        ("OpenAI/Python 3.3.0", "no-store", False),
    ],
)
async def test_clients_that_fail_on_parts_of_calls_get_them_whole(
    client: str, cache: str, whole: bool
) -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    headers = {"user-agent": client, "cache-control": cache}
    answer = await asked(engine, CHAT, headers=headers, stream=True, **TOOLS[CHAT])
    deltas = [event["choices"][0]["delta"] for event in events_of(answer.text)]
    functions = [call["function"] for d in deltas for call in d.get("tool_calls", [])]
    assert "".join(function["arguments"] for function in functions) == '{"a": 1, "b": [2'
    assert all("name" in function for function in functions) == whole
    assert (len(functions) == 1) == whole


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("options", [None, {"stream_tool_calls": True}])
async def test_streams_have_their_usage_with_the_finish_reason(n: int, options: Any) -> None:
    engine = FakeLlm(*[[*text("Hello")]] * n)
    answer = await asked(engine, CHAT, stream=True, n=n, stream_options=options)
    *others, last = events_of(answer.text)
    assert not any("usage" in event for event in others)
    assert last["choices"][0]["finish_reason"] == "stop"
    whole = await asked(FakeLlm(*[[*text("Hello")]] * n), CHAT, n=n)
    assert last["usage"] == whole.json()["usage"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_streams_that_say_so_have_their_usage_apart_or_not_at_all(wanted: bool) -> None:
    options = {"include_usage": wanted}
    answer = await asked(FakeLlm(), CHAT, stream=True, stream_options=options)
    found = [event["choices"] for event in events_of(answer.text) if "usage" in event]
    assert found == ([[]] if wanted else [])


async def test_opencode_gets_calls_in_pieces_of_providers_that_ask_for_usage() -> None:
    engine = FakeLlm([*(Part([token_id]) for token_id in CALL), Part([], "length")])
    answer = await asked(
        engine,
        CHAT,
        headers={"user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.40"},
        stream=True,
        stream_options={"include_usage": True},
        **TOOLS[CHAT],
    )
    assert answer.text.count('"tool_calls":[') > 2


async def test_calls_of_a_request_without_tools_are_no_calls() -> None:
    engine = FakeLlm([Part([*CALL, EOS], "stop")])
    (one,) = (await asked(engine, CHAT)).json()["choices"]
    assert "tool_calls" not in one["message"]
    assert one["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
async def test_a_client_that_goes_away_ends_all_its_answers(n: int, stream: bool) -> None:
    engine = FakeLlm(*[[*text("Hello")[:-1], WAITS]] * n)
    exchange = Exchange(CHAT, {"n": n, "stream": stream})
    app = FrontEnd(engine, NAMES, RULES, None)
    answering = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await eventually(lambda: [call.waits for call in engine.calls] == [True] * n)
    if stream:
        await eventually(lambda: "o" in exchange.body)
    else:
        assert not exchange.sent
    exchange.leave()
    async with asyncio.timeout(5):
        await answering
    assert [call.aborted for call in engine.calls] == [True] * n
    assert not exchange.ended


async def test_a_client_that_goes_away_before_its_body_asks_nothing() -> None:
    engine, sent = FakeLlm(), []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await FrontEnd(engine, NAMES, RULES, None)(Exchange(CHAT).scope, receive, send)
    assert engine.calls == [] and sent == []


async def test_a_shutdown_is_no_client_that_went_away() -> None:
    engine, exchange = FakeLlm([WAITS]), Exchange(CHAT)
    app = FrontEnd(engine, NAMES, RULES, None)
    answering = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await eventually(lambda: engine.calls)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert engine.calls[0].aborted


async def test_a_body_may_come_in_pieces() -> None:
    body = json.dumps(BODIES[CHAT]).encode()
    pieces = [
        {"type": "http.request", "body": body[:9], "more_body": True},
        {"type": "http.request", "body": body[9:]},
    ]
    exchange = Exchange(CHAT)

    async def receive() -> Any:
        return pieces.pop(0) if pieces else await asyncio.Event().wait()

    await FrontEnd(FakeLlm(), NAMES, RULES, None)(exchange.scope, receive, exchange.send)
    assert exchange.sent[0]["status"] == 200


async def test_a_stop_string_ends_the_engines_request() -> None:
    engine = FakeLlm([*text("one END two")[:-1], WAITS])
    response = await asked(engine, CHAT, stop="END")
    (one,) = response.json()["choices"]
    assert (one["message"]["content"], one["finish_reason"]) == ("one ", "stop")
    assert one["stop_reason"] == "END"
    assert engine.calls[0].aborted


async def test_a_stream_comes_token_by_token() -> None:
    parts = text("ab")[:-1]
    exchange = Exchange(CHAT, {"stream": True})
    app = FrontEnd(FakeLlm([*parts, WAITS]), NAMES, RULES, None)
    answering = asyncio.create_task(app(exchange.scope, exchange.receive, exchange.send))
    await eventually(lambda: len(exchange.sent) == 3)
    assert [message["type"] for message in exchange.sent] == [
        "http.response.start",
        *["http.response.body"] * 2,
    ]
    exchange.leave()
    await answering


@pytest.mark.parametrize("path", BODIES)
async def test_top_p_of_zero_leaves_the_most_probable_token_alone(path: str) -> None:
    engine = FakeLlm()
    response = await asked(engine, path, top_p=0, top_k=5, temperature=0.7)
    assert response.status_code == 200
    params = engine.calls[0].params
    assert (params.top_k, params.top_p, params.temperature) == (1, 1.0, 0.7)
    if path == RESPONSES:
        assert response.json()["top_p"] == 0
    assert (await asked(engine, path, top_p=-0.1)).status_code == 400
