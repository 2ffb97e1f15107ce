"""Whatever an answer is, its stream and its whole obey the SDKs' types and say the same."""

import json
from typing import Any

from anthropic.types import Message
from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from serving.answers.events import End, Reasoning, Step, Text, Usage
from tests.encoders import response_streams
from tests.encoders import test_chat as chat
from tests.encoders import test_completions as completions
from tests.encoders import test_messages as messages
from tests.encoders.event_streams import answers, in_turns
from tests.encoders.response_streams import rebuilt, unknown

CHAT_EXTENSIONS = {"reasoning", "reasoning_content", "stop_reason", "token_ids"}
"""Fields of vLLM's that OpenAI's chat completions do not have."""
THINKS_AMID = [Step([Text("a"), Reasoning("b"), Text("c")], end=End("stop"))]
COMPLETION_EXTENSIONS = {"stop_reason", "token_ids", "prompt_token_ids"}


@given(st.data(), st.integers(1, 3), st.booleans(), st.booleans(), st.sampled_from(["", "Hel"]))
def test_chats(data: st.DataObject, n: int, logprobs: bool, ids: bool, echo: str) -> None:
    steps = data.draw(in_turns(n, logprobs, ids))
    options: dict[str, Any] = {
        "return_token_ids": ids,
        "continuous_usage": data.draw(st.booleans()),
        "echo": echo,
        "whole_calls": data.draw(st.booleans()),
    }
    found = chat.streamed(chat.encoder(n, **options), steps)
    for chunk in found:
        typed = ChatCompletionChunk.model_validate(chunk, strict=True)
        assert unknown(typed) <= CHAT_EXTENSIONS
    body = chat.whole(chat.encoder(n, **options), n, steps)
    assert unknown(ChatCompletion.model_validate(body, strict=True)) <= CHAT_EXTENSIONS
    for choice in body["choices"]:
        choice["message"]["content"] = choice["message"]["content"] or ""
    assert chat.joined(found, n) == body["choices"]


@given(st.data(), st.integers(1, 3), st.booleans(), st.booleans())
def test_completions(data: st.DataObject, n: int, logprobs: bool, ids: bool) -> None:
    steps = data.draw(in_turns(n, logprobs, ids))
    options: dict[str, Any] = {"return_token_ids": ids, "logprobs": 1 if logprobs else None}
    found = completions.streamed(completions.encoder(n=n, **options), steps)
    body = completions.whole(completions.encoder(n=n, **options), n, steps)
    for one in (*found, body):
        assert unknown(completions.validate(one, is_part=True)) <= COMPLETION_EXTENSIONS
    for choice in body["choices"]:
        parts = [part for chunk in found for part in chunk["choices"]]
        parts = [part for part in parts if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
        assert parts[-1]["stop_reason"] == choice["stop_reason"]
        for name in choice["logprobs"] or ():
            told = [value for part in parts for value in (part["logprobs"] or {}).get(name, ())]
            assert told == choice["logprobs"][name]
        if ids:
            tokens = [token for part in parts for token in part["token_ids"] or ()]
            assert tokens == choice["token_ids"]


@given(answers())
@example(THINKS_AMID)
def test_messages_of_anthropic(steps: list[Step]) -> None:
    found = messages.stream_of(steps)
    for event in found:
        assert unknown(messages.EVENTS.validate_python(event, strict=True)) == set()
    body = messages.whole_of(steps)
    assert unknown(Message.model_validate(body, strict=True)) == set()
    assert messages.plain(messages.joined(found)) == messages.plain(body)


@given(answers() | answers(logprobs=True), st.booleans())
@example(THINKS_AMID, True)
@example(THINKS_AMID, False)
def test_responses(steps: list[Step], thoughts: bool) -> None:
    given = response_streams.options(include_reasoning=thoughts)
    found = response_streams.streamed(steps, given)
    final = found[-1]["response"]
    assert final == response_streams.whole(steps, given)
    assert final["output"] == list(rebuilt(found))


@given(answers(), st.integers(0, 9), st.sampled_from([400, 404, 429, 500, 503]))
def test_an_error_may_end_any_stream(steps: list[Step], count: int, status: int) -> None:
    steps = steps[:count]
    response = response_streams.encoder()
    pieces = [response.begin(), *(response.step(0, step) for step in steps)]
    *_, error, failed = response_streams.parsed(b"".join([*pieces, response.error("No.", status)]))
    assert (error["type"], failed["type"]) == ("error", "response.failed")
    assert failed["response"]["error"]["message"] == error["message"] == "No."
    message = messages.encoder(Usage())
    pieces = [message.begin(), *(message.step(0, step) for step in steps)]
    stream = b"".join([*pieces, message.error("No.", status)])
    *events, last = stream.decode().strip().split("\n\n")
    messages.events_of("".join(f"{event}\n\n" for event in events).encode())
    assert last.startswith("event: error\n") and json.loads(last.split("data: ")[1])
