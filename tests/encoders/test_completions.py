import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from serving.answers.events import (
    Answer,
    End,
    Event,
    PromptTokens,
    Step,
    Text,
    TokenLogprob,
    Usage,
)
from serving.encoders.completions import CompletionEncoder
from serving.requests.completions import CompletionOptions

START = {"id": "cmpl-1", "object": "text_completion", "created": 5, "model": "m"}
USAGE = {
    "prompt_tokens": 3,
    "total_tokens": 7,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def encoder(usage: Usage | None = None, **options: Any) -> CompletionEncoder:
    return CompletionEncoder(
        CompletionOptions(**options), "cmpl-1", 5, "m", usage or Usage(3, completion_tokens=4)
    )


BEGIN = TokenLogprob(1, b"<s>", 0.0, in_text=False)


def token(text: str, logprob: float = -0.5, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(len(text), text.encode(), logprob, top)


def validate(body: dict[str, Any], is_part: bool = False) -> Completion:
    """Validates by the SDK's types, which leave out two nulls of OpenAI's service: the reason of a
    part that is not the last, and the log-probability of an echoed prompt's first token."""
    body = copy.deepcopy(body)
    for one in body["choices"]:
        if is_part:
            one["finish_reason"] = one["finish_reason"] or "stop"
        logprobs = one["logprobs"] or {"tokens": []}
        if logprobs["tokens"][:1] in (["<s>"], ["token_id:1"]):
            assert logprobs["token_logprobs"].pop(0) is None
            assert logprobs["top_logprobs"].pop(0) is None
    return Completion.model_validate(body, strict=True)


def chunks(stream: bytes) -> list[dict[str, Any]]:
    *events, done, last = stream.decode().split("\n\n")
    assert (done, last) == ("data: [DONE]", "")
    found = [json.loads(event.removeprefix("data: ")) for event in events]
    for chunk in found:
        validate(chunk, is_part=True)
    return found


def streamed(writer: CompletionEncoder, steps: list[tuple[int, Step]]) -> list[dict[str, Any]]:
    stream = writer.begin() + b"".join(writer.step(index, step) for index, step in steps)
    return chunks(stream + writer.finish())


def whole(writer: CompletionEncoder, count: int, steps: list[tuple[int, Step]]) -> dict[str, Any]:
    answers = [Answer() for _ in range(count)]
    for index, step in steps:
        answers[index].add(step)
    body: dict[str, Any] = json.loads(writer.whole(answers))
    validate(body)
    return body


def choice(text: str, index: int = 0, **fields: Any) -> dict[str, Any]:
    nothing = ("logprobs", "finish_reason", "stop_reason", "prompt_token_ids", "token_ids")
    return {"index": index, "text": text, **dict.fromkeys(nothing), **fields}


def test_a_stream() -> None:
    steps = [
        (0, Step([Text("Hel")])),
        (0, Step([])),
        (0, Step([Text("l\n"), Text("o")])),
        (0, Step([Text("!")], end=End("stop", "x"))),
    ]
    assert streamed(encoder(), steps) == [
        START | {"choices": [choice("Hel")]},
        START | {"choices": [choice("l\no")]},
        START | {"choices": [choice("!", finish_reason="stop", stop_reason="x")]},
    ]


def test_a_whole_answer() -> None:
    steps = [(0, Step([Text("Hello")], end=End("length")))]
    assert whole(encoder(), 1, steps) == START | {
        "choices": [choice("Hello", finish_reason="length")],
        "usage": USAGE,
    }


def test_usage() -> None:
    usage = Usage(3, cached_tokens=2, reasoning_tokens=1)
    writer = encoder(usage, include_usage=True, continuous_usage=True)
    stream = b""
    for text, end in (("a", None), ("b", End("stop"))):
        usage.completion_tokens += 1
        stream += writer.step(0, Step([Text(text)], end=end))
    found = chunks(stream + writer.finish())
    counts = [chunk["usage"] for chunk in found]
    assert [count["completion_tokens"] for count in counts] == [1, 2, 2]
    assert counts[-1] == {
        "prompt_tokens": 3,
        "total_tokens": 5,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert found[-1]["choices"] == []
    only_last = streamed(encoder(include_usage=True), [(0, Step([Text("a")], end=End("stop")))])
    assert ["usage" in chunk for chunk in only_last] == [False, True]


def test_logprobs_go_on_where_the_last_part_ended() -> None:
    other = token("x", -9.0)
    steps = [
        (0, Step([Text("ab")], logprobs=[token("ab", -0.1, token("ab", -0.1), other)])),
        (0, Step([Text("c")], logprobs=[token("c", float("-inf"), other)], end=End("stop"))),
    ]
    first, last = [
        chunk["choices"][0]["logprobs"] for chunk in streamed(encoder(logprobs=1), steps)
    ]
    assert first == {
        "text_offset": [0],
        "token_logprobs": [-0.1],
        "tokens": ["ab"],
        "top_logprobs": [{"ab": -0.1, "x": -9.0}],
    }
    assert last == {
        "text_offset": [2],
        "token_logprobs": [-9999.0],
        "tokens": ["c"],
        "top_logprobs": [{"c": -9999.0, "x": -9.0}],
    }
    as_ids = whole(encoder(logprobs=1, tokens_as_ids=True), 1, steps)["choices"][0]["logprobs"]
    assert as_ids["tokens"] == ["token_id:2", "token_id:1"]
    assert as_ids["text_offset"] == [0, 2]


def test_offsets_are_places_in_the_text() -> None:
    """Tokens that are parts of a character begin where it does, and control tokens take none."""
    first, rest = "😀".encode()[:1], "😀".encode()[1:]
    tokens = [token("a"), TokenLogprob(2, first, -1.0), TokenLogprob(3, rest, -1.0)]
    tokens += [BEGIN, token("b"), token("c")]
    steps = [(0, Step([Text("a😀bc")], logprobs=tokens, end=End("length")))]

    def begun() -> CompletionEncoder:
        writer = encoder(echo=True, logprobs=0, tokens_as_ids=True)
        writer.prompt(PromptTokens(0, [1, 7], "é", BEGIN, [None, token("é")]))
        return writer

    (one,) = whole(begun(), 1, steps)["choices"]
    assert one["text"] == "éa😀bc"
    assert one["logprobs"]["text_offset"] == [0, 0, 1, 2, 2, 3, 3, 4]
    assert one["logprobs"]["tokens"][0] == "token_id:1"
    assert streamed(begun(), steps)[0]["choices"][0] == one


@pytest.mark.parametrize("logprobs", [None, 1])
def test_an_echo_is_in_front_of_each_answer(logprobs: int | None) -> None:
    def begun() -> CompletionEncoder:
        writer = encoder(prompts=2, n=2, echo=True, logprobs=logprobs)
        for index, text in enumerate(("Hi", "Yo")):
            prompt = [None, token(text)] if logprobs else None
            writer.prompt(PromptTokens(index, [1, 7], text, BEGIN, prompt))
        return writer

    steps = [
        (index, Step([Text("!")], logprobs=[token("!")] if logprobs else None, end=End("stop")))
        for index in (3, 0, 2, 1)
    ]
    body = whole(begun(), 4, steps)
    assert [one["text"] for one in body["choices"]] == ["Hi!", "Hi!", "Yo!", "Yo!"]
    if logprobs:
        assert body["choices"][2]["logprobs"] == {
            "text_offset": [0, 0, 2],
            "token_logprobs": [None, -0.5, -0.5],
            "tokens": ["<s>", "Yo", "!"],
            "top_logprobs": [None, {"Yo": -0.5}, {"!": -0.5}],
        }
    parts = {
        chunk["choices"][0]["index"]: chunk["choices"][0] for chunk in streamed(begun(), steps)
    }
    for one in body["choices"]:
        assert parts[one["index"]] == one


def test_an_echo_may_be_all() -> None:
    def begun() -> CompletionEncoder:
        writer = encoder(echo=True, echo_only=True, logprobs=0, return_token_ids=True)
        writer.prompt(PromptTokens(0, [1, 7], "Hi", BEGIN, [None, token("Hi")]))
        return writer

    steps = [(0, Step([Text("!")], logprobs=[token("!")], token_ids=[8], end=End("length")))]
    (one,) = whole(begun(), 1, steps)["choices"]
    assert (one["text"], one["token_ids"], one["prompt_token_ids"]) == ("Hi", [], [1, 7])
    assert one["logprobs"]["tokens"] == ["<s>", "Hi"]
    (chunk,) = streamed(begun(), steps)
    assert chunk["choices"][0] == one


def test_token_ids_and_prompt_logprobs() -> None:
    def begun(**options: Any) -> CompletionEncoder:
        writer = encoder(**options)
        hi = TokenLogprob(7, b"Hi", -0.5, (TokenLogprob(8, b"Yo", -0.25, rank=1),), 2)
        writer.prompt(PromptTokens(0, [1, 7], "Hi", BEGIN, [None, hi]))
        return writer

    steps = [
        (0, Step([Text("a")], token_ids=[2])),
        (0, Step([], token_ids=[3])),
        (0, Step([], token_ids=[4], end=End("stop"))),
    ]
    (one,) = whole(begun(return_token_ids=True, prompt_logprobs=True), 1, steps)["choices"]
    assert (one["token_ids"], one["prompt_token_ids"]) == ([2, 3, 4], [1, 7])
    assert one["prompt_logprobs"] == [
        None,
        {
            "7": {"logprob": -0.5, "rank": 2, "decoded_token": "Hi"},
            "8": {"logprob": -0.25, "rank": 1, "decoded_token": "Yo"},
        },
    ]
    found = [chunk["choices"][0] for chunk in streamed(begun(prompt_logprobs=True), steps)]
    assert found[0]["prompt_logprobs"] == one["prompt_logprobs"]
    assert not any("prompt_logprobs" in part for part in found[1:])
    found = [chunk["choices"][0] for chunk in streamed(begun(return_token_ids=True), steps)]
    assert [part["token_ids"] for part in found] == [[2], [3], [4]]
    assert [part["prompt_token_ids"] for part in found] == [[1, 7], None, None]
    (one,) = whole(begun(), 1, steps)["choices"]
    assert (one["token_ids"], one["prompt_token_ids"]) == (None, None)
    assert "prompt_logprobs" not in one


def test_an_error_ends_the_stream() -> None:
    stream = encoder().error("No.", 500)
    assert stream.endswith(b"\n\ndata: [DONE]\n\n")
    error = json.loads(stream.decode().split("\n\n")[0].removeprefix("data: "))["error"]
    assert error == {"message": "No.", "type": "server_error", "param": None, "code": 500}
    assert b"invalid_request_error" in encoder().error("No.", 400)


ENDS = st.builds(
    End, st.sampled_from(["stop", "length"]), st.none() | st.text() | st.integers(0, 9)
)


@st.composite
def steps_of(draw: st.DrawFn, count: int, logprobs: bool, ids: bool) -> list[tuple[int, Step]]:
    def step(texts: list[str], end: End | None) -> Step:
        events: list[Event] = [Text(text) for text in texts]
        return Step(
            events,
            [token(text) for text in texts] if logprobs else None,
            [len(text) for text in texts] if ids else None,
            end,
        )

    texts = st.lists(st.text(), min_size=1, max_size=3)
    order = draw(st.lists(st.integers(0, count - 1), max_size=6))
    steps = [(index, step(draw(texts), None)) for index in order]
    return [*steps, *((index, step(draw(texts), draw(ENDS))) for index in range(count))]


@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_a_stream_says_what_the_whole_answer_says(
    data: st.DataObject, echo: bool, logprobs: bool, ids: bool
) -> None:
    prompts, n = 2, data.draw(st.integers(1, 2))
    steps = data.draw(steps_of(prompts * n, logprobs, ids))

    def begun() -> CompletionEncoder:
        writer = encoder(
            prompts=prompts,
            n=n,
            echo=echo,
            logprobs=1 if logprobs else None,
            return_token_ids=ids,
        )
        for index in range(prompts):
            known = [None, token("Hi")] if logprobs and echo else None
            writer.prompt(PromptTokens(index, [1, index], "Hi", BEGIN, known))
        return writer

    expected = whole(begun(), prompts * n, steps)["choices"]
    found: dict[int, dict[str, Any]] = {}
    for chunk in streamed(begun(), steps):
        (part,) = chunk["choices"]
        so_far = found.get(part["index"])
        if so_far is None:
            found[part["index"]] = part
            continue
        so_far["text"] += part["text"]
        for name in ("finish_reason", "stop_reason"):
            so_far[name] = part[name]
        if logprobs:
            for name, values in part["logprobs"].items():
                so_far["logprobs"][name] += values
        if ids:
            so_far["token_ids"] += part["token_ids"]
    assert [found[index] for index in sorted(found)] == expected
