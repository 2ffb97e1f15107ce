"""Every turn of every coding agent gets an answer: a text or a call, in the types of the SDKs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.agents.turns import REASONING, TURNS, Turn
from tests.e2e.service import MODEL

CHAT, COMPLETIONS, RESPONSES, MESSAGES = (
    f"/v1/{name}" for name in ("chat/completions", "completions", "responses", "messages")
)
WHOLE: dict[str, Any] = {
    CHAT: ChatCompletion,
    COMPLETIONS: Completion,
    RESPONSES: Response,
    MESSAGES: Message,
}
EVENTS: dict[str, TypeAdapter[Any]] = {
    CHAT: TypeAdapter(ChatCompletionChunk),
    COMPLETIONS: TypeAdapter(Completion),
    RESPONSES: TypeAdapter(ResponseStreamEvent),
    MESSAGES: TypeAdapter(RawMessageStreamEvent),
}
Said = Iterator[tuple[str, str]]
"""Pairs of "text" and a text that was said, or of "call" and the name of a called tool."""


def request(turn: Turn, streamed: bool) -> dict[str, Any]:
    """Returns a turn's body with a short answer."""
    body = turn.request(model=MODEL, temperature=0, stream=streamed)
    limit = "max_output_tokens" if turn.endpoint == RESPONSES else "max_tokens"
    for name in [name for name in body if name.startswith("max_")] or [limit]:
        body[name] = 100
    if not streamed:
        body.pop("stream_options", None)
    return body


def chat(answer: ChatCompletion) -> Said:
    (choice,) = answer.choices
    yield "text", choice.message.content or ""
    for call in choice.message.tool_calls or []:
        assert call.type == "function"
        yield "call", call.function.name


def streamed_chat(events: Sequence[ChatCompletionChunk]) -> Said:
    for delta in (choice.delta for event in events for choice in event.choices):
        yield "text", delta.content or ""
        for call in delta.tool_calls or []:
            if call.function is not None and call.function.name:
                yield "call", call.function.name


def completions(*answers: Completion) -> Said:
    for choice in (choice for answer in answers for choice in answer.choices):
        yield "text", choice.text


def responses(answer: Response) -> Said:
    yield "text", answer.output_text
    for item in answer.output:
        if item.type in ("function_call", "custom_tool_call"):
            yield "call", item.name


def streamed_responses(events: Sequence[Any]) -> Said:
    assert events[-1].type in ("response.completed", "response.incomplete")
    yield from responses(events[-1].response)


def messages(answer: Message) -> Said:
    for block in answer.content:
        if block.type == "text":
            yield "text", block.text
        elif block.type == "tool_use":
            yield "call", block.name


def streamed_messages(events: Sequence[Any]) -> Said:
    assert events[-1].type == "message_stop"
    for event in events:
        if event.type == "content_block_start" and event.content_block.type == "tool_use":
            yield "call", event.content_block.name
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield "text", event.delta.text


SAID: dict[str, tuple[Callable[[Any], Said], Callable[[Any], Said]]] = {
    CHAT: (chat, streamed_chat),
    COMPLETIONS: (completions, lambda events: completions(*events)),
    RESPONSES: (responses, streamed_responses),
    MESSAGES: (messages, streamed_messages),
}


def names_of(tools: Sequence[dict[str, Any]]) -> Iterator[str]:
    for tool in tools:
        if "tools" in tool:
            yield from names_of(tool["tools"])
        elif name := tool.get("function", tool).get("name"):
            yield name


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: turn.name)
def test_a_turn_gets_an_answer(http: httpx.Client, turn: Turn) -> None:
    for streamed in (False, True):
        answer = http.post(turn.path, json=request(turn, streamed), headers=turn.headers)
        if turn.refused is not None:
            assert answer.status_code == 400 and turn.refused in answer.text
            continue
        assert answer.status_code == 200, answer.text
        warnings = answer.headers.get("x-request-warnings", "")
        missing = [piece for piece in turn.warnings if piece not in warnings]
        assert set(missing) <= {REASONING}  # this model reasons
        if turn.endpoint not in SAID:
            count = MessageTokensCount.model_validate_json(answer.text, strict=True)
            assert count.input_tokens > 0
            continue
        said = list(what_was_said(turn.endpoint, answer.text, streamed))
        may_say_nothing = turn.prompt is not None and turn.prompt.continued
        assert may_say_nothing or any(text for _, text in said), answer.text
        calls = {name for kind, name in said if kind == "call"}
        assert calls <= set(names_of(turn.body.get("tools", ())))


def what_was_said(endpoint: str, body: str, streamed: bool) -> Said:
    whole, of_events = SAID[endpoint]
    if not streamed:
        return whole(WHOLE[endpoint].model_validate_json(body, strict=True))
    lines = (line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: "))
    # An error event is of none of these types.
    return of_events(
        [EVENTS[endpoint].validate_json(line, strict=True) for line in lines if line != "[DONE]"]
    )
