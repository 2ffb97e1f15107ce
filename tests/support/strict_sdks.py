"""Reads streams of the four APIs as their own SDKs do, which are told to refuse what has not the
types of the API."""

import json
from collections.abc import Callable

import anthropic
import httpx2
import openai

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"

_DONE = b"data: [DONE]\n\n"
_GOES_ON = "content_filter"
"""A reason that our engines do not have."""


def read(path: str, stream: bytes) -> None:
    """Reads a stream to its last event. Raises an error if the SDK refuses it, or if it has no
    proper end."""
    headers = {"content-type": "text/event-stream"}
    if path in (CHAT, COMPLETIONS):
        assert stream.endswith(_DONE)
    if path == COMPLETIONS:
        stream = _without_nulls(stream)
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=stream))
    with httpx2.Client(transport=answer) as http:
        _READERS[path](http)


def _without_nulls(stream: bytes) -> bytes:
    """Returns a stream of completions without two nulls of OpenAI's service that the SDK's types
    leave out: the reason of a part that is not the last, and the log-probability of an echoed
    prompt's first token."""
    events = []
    for event in stream.removesuffix(_DONE).split(b"\n\n")[:-1]:
        if event.startswith(b":"):
            continue
        data = json.loads(event.removeprefix(b"data: "))
        for choice in data["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or _GOES_ON
            for name in ("token_logprobs", "top_logprobs"):
                if choice["logprobs"] and choice["logprobs"][name][:1] == [None]:
                    del choice["logprobs"][name][0]
        events.append(b"data: %b\n\n" % json.dumps(data).encode())
    return b"".join(events) + _DONE


def _openai(http: httpx2.Client) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none",
        base_url="http://service/v1",
        max_retries=0,
        http_client=http,
        _strict_response_validation=True,
    )


def _read_chat(http: httpx2.Client) -> None:
    chunks = [*_openai(http).chat.completions.create(model="", messages=[], stream=True)]
    assert any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


def _read_completion(http: httpx2.Client) -> None:
    chunks = [*_openai(http).completions.create(model="", prompt="", stream=True)]
    reasons = {choice.finish_reason for chunk in chunks for choice in chunk.choices}
    assert reasons - {_GOES_ON}


def _read_response(http: httpx2.Client) -> None:
    with _openai(http).responses.stream(model="", input="") as events:
        *_, last = events
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage is not None


def _read_message(http: httpx2.Client) -> None:
    client = anthropic.Anthropic(
        api_key="none",
        base_url="http://service",
        max_retries=0,
        http_client=http,
        _strict_response_validation=True,
    )
    with client.messages.stream(model="", messages=[], max_tokens=1) as events:
        *_, last = events
        whole = events.get_final_message()
    assert last.type == "message_stop"
    assert whole.stop_reason is not None and whole.usage.output_tokens


_READERS: dict[str, Callable[[httpx2.Client], None]] = {
    CHAT: _read_chat,
    COMPLETIONS: _read_completion,
    MESSAGES: _read_message,
    RESPONSES: _read_response,
}
