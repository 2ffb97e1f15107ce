import copy
import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    PromptTokens,
    Reasoning,
    Step,
    Text,
    TokenLogprob,
    Usage,
)
from serving.encoders.chat import ChatEncoder
from serving.requests.chat import ChatOptions

START = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
CALL: list[Event] = [CallBegun("abcdefghi", "f"), Arguments('{"a": '), Arguments("1}"), CallEnded()]


def encoder(n: int = 1, usage: Usage | None = None, **options: Any) -> ChatEncoder:
    return ChatEncoder(
        ChatOptions(n, **options), "chatcmpl-1", 5, "m", usage or Usage(3, 2, 4, reasoning_tokens=1)
    )


def token(text: str, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(len(text), text.encode(), -0.5, top)


def chunks(stream: bytes) -> list[dict[str, Any]]:
    *events, done, last = stream.decode().split("\n\n")
    assert (done, last) == ("data: [DONE]", "")
    found = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    return found


def streamed(writer: ChatEncoder, steps: list[tuple[int, Step]]) -> list[dict[str, Any]]:
    stream = writer.begin() + b"".join(writer.step(index, step) for index, step in steps)
    return chunks(stream + writer.finish())


def whole(writer: ChatEncoder, n: int, steps: list[tuple[int, Step]]) -> dict[str, Any]:
    answers = [Answer() for _ in range(n)]
    for index, step in steps:
        answers[index].add(step)
    body: dict[str, Any] = json.loads(writer.whole(answers))
    ChatCompletion.model_validate(body, strict=True)
    return body


def part(delta: dict[str, Any], index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
    return START | {"choices": [choice | fields]}


ROLE = {"role": "assistant", "content": ""}


def test_a_stream() -> None:
    steps = [
        (0, Step([Text("Hel\n")])),
        (0, Step([])),
        (0, Step([Text('l"o')])),
        (0, Step([], end=End("stop", "x"))),
    ]
    assert streamed(encoder(), steps) == [
        part(ROLE),
        part({"content": "Hel\n"}),
        part({"content": 'l"o'}),
        part({}, finish_reason="stop", stop_reason="x"),
    ]


def test_a_whole_answer() -> None:
    body = whole(encoder(), 1, [(0, Step([Text("Hello")], end=End("length")))])
    assert body == START | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
                "stop_reason": None,
            }
        ],
        "usage": USAGE,
    }


def test_each_choice_has_its_role_first() -> None:
    steps = [(1, Step([Text("b")])), (0, Step([Text("a")]))]
    steps += [(index, Step([], end=End("stop"))) for index in (0, 1)]
    found = streamed(encoder(2), steps)
    assert found[:4] == [
        part(ROLE),
        part(ROLE, 1),
        part({"content": "b"}, 1),
        part({"content": "a"}),
    ]
    body = whole(encoder(2), 2, steps)
    assert [one["message"]["content"] for one in body["choices"]] == ["a", "b"]


def test_calls() -> None:
    steps = [(0, Step([event])) for event in [Text("Yes."), *CALL, *CALL]]
    steps.append((0, Step([], end=End("tool_calls"))))
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(encoder(), steps)]
    begun = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": ""}}
    calls = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert calls == [
        [{"index": index, **rest}]
        for index in (0, 1)
        for rest in (
            begun,
            {"function": {"arguments": '{"a": '}},
            {"function": {"arguments": "1}"}},
        )
    ]
    (one,) = whole(encoder(), 1, steps)["choices"]
    assert one["message"]["content"] == "Yes." and one["finish_reason"] == "tool_calls"
    call = begun | {"function": {"name": "f", "arguments": '{"a": 1}'}}
    assert one["message"]["tool_calls"] == [call, call]


def test_calls_that_are_streamed_whole_are_the_last_chunk() -> None:
    steps = [(0, Step([event])) for event in [*CALL, *CALL]]
    found = streamed(encoder(whole_calls=True), [*steps, (0, Step([], end=End("tool_calls")))])
    function = {"name": "f", "arguments": '{"a": 1}'}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    choices = [chunk["choices"][0] for chunk in found]
    whole_calls = [{"index": index, **call} for index in (0, 1)]
    assert [choice["delta"] for choice in choices] == [ROLE, {"tool_calls": whole_calls}]
    assert choices[-1]["finish_reason"] == "tool_calls"


def test_calls_without_text_have_no_content() -> None:
    body = whole(encoder(), 1, [(0, Step(CALL, end=End("tool_calls")))])
    assert body["choices"][0]["message"]["content"] is None
    empty = whole(encoder(), 1, [(0, Step([], end=End("stop")))])
    assert empty["choices"][0]["message"]["content"] == ""


def test_a_call_that_is_cut_off() -> None:
    steps = [(0, Step(CALL[:2], end=End("length")))]
    (one,) = whole(encoder(), 1, steps)["choices"]
    assert one["finish_reason"] == "length"
    assert one["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": '
    assert streamed(encoder(), steps)[-1]["choices"][0]["finish_reason"] == "length"
    (held,) = streamed(encoder(whole_calls=True), steps)[-1]["choices"]
    (call,) = held["delta"]["tool_calls"]
    assert (call["function"]["arguments"], held["finish_reason"]) == ('{"a": ', "length")


def test_reasoning() -> None:
    steps = [(0, Step([Reasoning("Hm"), Text("Yes")], end=End("stop")))]
    message = whole(encoder(), 1, steps)["choices"][0]["message"]
    thought = {"reasoning": "Hm", "reasoning_content": "Hm"}
    assert message.items() >= {"content": "Yes", **thought}.items()
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed(encoder(), steps)]
    assert deltas == [ROLE, thought, {"content": "Yes"}]


def test_an_echo_is_in_front_of_each_answer() -> None:
    steps = [(index, Step([Text("lo")], end=End("stop"))) for index in (0, 1)]
    assert streamed(encoder(2, echo="Hel"), steps)[:4] == [
        part(ROLE),
        part({"content": "Hel"}),
        part(ROLE, 1),
        part({"content": "Hel"}, 1),
    ]
    body = whole(encoder(2, echo="Hel"), 2, steps)
    assert [one["message"]["content"] for one in body["choices"]] == ["Hello", "Hello"]


def test_usage() -> None:
    usage = Usage(3, cached_tokens=2)

    def stream(**options: Any) -> list[dict[str, Any]]:
        usage.completion_tokens = 0
        writer = encoder(usage=usage, **options)
        written = writer.begin()
        for text, end in (("a", None), ("b", End("stop"))):
            usage.completion_tokens += 1
            written += writer.step(0, Step([Text(text)], end=end))
        return chunks(written + writer.finish())

    assert not any("usage" in chunk for chunk in stream())
    *others, last = stream(include_usage=True)
    assert not any("usage" in chunk for chunk in others)
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 2
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    counts = stream(include_usage=True, continuous_usage=True)
    assert [one["usage"]["completion_tokens"] for one in counts] == [0, 1, 2, 2]


def test_usage_with_the_last_finish_reason() -> None:
    steps = [
        (1, Step([Text("b")], end=End("stop"))),
        (0, Step([Text("a"), *CALL], end=End("tool_calls"))),
    ]
    *others, last = streamed(encoder(2, usage_at_end=True), steps)
    assert not any("usage" in chunk for chunk in others)
    assert last["choices"][0]["finish_reason"] == "tool_calls"
    assert last["usage"] == USAGE


def test_logprobs_name_tokens_by_ids_where_that_is_asked_for() -> None:
    steps = [
        (0, Step([Text("abc")], logprobs=[token("abc", token("ab"))])),
        (0, Step([], end=End("stop"))),
    ]
    writer = encoder(tokens_as_ids=True)
    (one,) = whole(writer, 1, steps)["choices"][0]["logprobs"]["content"]
    assert (one["token"], one["top_logprobs"][0]["token"]) == ("token_id:3", "token_id:2")
    assert one["bytes"] == list(b"abc")
    told = [chunk["choices"][0]["logprobs"] for chunk in streamed(writer, steps)]
    assert {"content": [one]} in told


def test_logprobs() -> None:
    logprob = token("é", token("é"), token("x"))
    steps = [
        (0, Step([Text("é")], logprobs=[logprob])),
        (0, Step([], [token("<")], end=End("stop"))),
    ]
    known = {"token": "é", "logprob": -0.5, "bytes": [0xC3, 0xA9]}
    other = {"token": "x", "logprob": -0.5, "bytes": [120]}
    last = {"token": "<", "logprob": -0.5, "bytes": [60], "top_logprobs": []}
    expected = [{**known, "top_logprobs": [known, other]}, last]
    assert whole(encoder(), 1, steps)["choices"][0]["logprobs"] == {"content": expected}
    found = [chunk["choices"][0]["logprobs"] for chunk in streamed(encoder(), steps)]
    assert found == [None, {"content": expected[:1]}, {"content": expected[1:]}]


def test_tokens_without_text_are_told_of() -> None:
    steps = [
        (0, Step([], token_ids=[7])),
        (0, Step([Text("a"), *CALL], token_ids=[8, 9])),
        (0, Step([], token_ids=[2], end=End("tool_calls"))),
    ]
    found = [chunk["choices"][0] for chunk in streamed(encoder(return_token_ids=True), steps)]
    told = [one["token_ids"] for one in found if "token_ids" in one]
    assert told == [[7], [8, 9], [2]]
    assert whole(encoder(), 1, steps)["choices"][0]["token_ids"] == [7, 8, 9, 2]


def test_the_prompt_is_told_of() -> None:
    known = TokenLogprob(7, b"Hi", -0.5, (TokenLogprob(8, b"Yo", -0.25, rank=1),), 2)
    steps = [(0, Step([Text("a")], end=End("stop")))]

    def begun(**options: Any) -> ChatEncoder:
        writer = encoder(**options)
        logprobs = None if options else [None, known]
        writer.prompt(PromptTokens(0, [1, 7], "Hi", TokenLogprob(1, b"<s>", 0.0), logprobs))
        return writer

    first, *others = streamed(begun(return_token_ids=True), steps)
    assert first["prompt_token_ids"] == [1, 7]
    assert not any("prompt_token_ids" in chunk for chunk in others)
    assert whole(begun(return_token_ids=True), 1, steps)["prompt_token_ids"] == [1, 7]
    body = whole(begun(), 1, steps)
    assert "prompt_token_ids" not in body
    assert body["prompt_logprobs"] == [
        None,
        {
            "7": {"logprob": -0.5, "rank": 2, "decoded_token": "Hi"},
            "8": {"logprob": -0.25, "rank": 1, "decoded_token": "Yo"},
        },
    ]


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (500, "server_error")]
)
def test_an_error_ends_the_stream(status: int, kind: str) -> None:
    error, done, _ = encoder().error("No.", status).decode().split("\n\n")
    assert done == "data: [DONE]"
    expected = {"message": "No.", "type": kind, "param": None, "code": status}
    assert json.loads(error.removeprefix("data: ")) == {"error": expected}


def joined(found: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Puts the choices of a stream together as clients do."""
    choices: list[dict[str, Any]] = [
        {"index": index, "message": {"content": "", "refusal": None}, "logprobs": None}
        for index in range(n)
    ]
    for chunk in found:
        (piece,) = chunk["choices"]
        choice = choices[piece["index"]]
        message, delta = choice["message"], piece["delta"]
        message["role"] = message.get("role") or delta.get("role")
        message["content"] += delta.get("content") or ""
        for name in ("reasoning", "reasoning_content"):
            if delta.get(name):
                message[name] = message.get(name, "") + delta[name]
        for call in copy.deepcopy(delta.get("tool_calls", [])):
            calls = message.setdefault("tool_calls", [])
            if call.pop("index") == len(calls):
                calls.append(call)
            else:
                calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        for name in ("finish_reason", "stop_reason"):
            choice[name] = piece.get(name)
        if piece["logprobs"]:
            choice["logprobs"] = choice["logprobs"] or {"content": []}
            choice["logprobs"]["content"] += piece["logprobs"]["content"]
        if "token_ids" in piece:
            choice["token_ids"] = choice.get("token_ids", []) + piece["token_ids"]
    return choices
