"""A server whose answers a test scripts, as an httpx transport: nothing listens."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from serving.conformance.check import Check
from serving.conformance.model import FAMILIES, Model
from serving.conformance.runner import Result, run_one
from serving.conformance.server import Server
from serving.conformance.suite import CHECKS

CONTEXT_TOKENS = 32768
Handler = Callable[[httpx.Request], httpx.Response]


def model(family: str = "3.2", tiny: bool = True) -> Model:
    return Model("mistral-serve/tiny", FAMILIES[family], CONTEXT_TOKENS, tiny)


def server(
    handler: Handler, family: str = "3.2", tiny: bool = True, api_key: str | None = None
) -> Server:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://stand-in")
    return Server(http, model(family, tiny), api_key)


def check(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)


async def result(name: str, handler: Handler, family: str = "3.2", tiny: bool = True) -> Result:
    """The server under test, which answers with `handler`."""
    return await run_one(server(handler, family, tiny), check(name))


def call(name: str, arguments: Any, call_id: str = "a1B2c3D4e") -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def completion(
    content: str | None = None,
    calls: Iterable[dict[str, Any]] = (),
    finish_reason: str = "stop",
    tokens: int = 3,
    stop_reason: Any = None,
    **message: Any,
) -> dict[str, Any]:
    """A chat completion in OpenAI's format."""
    message = {"role": "assistant", "content": content, **message}
    if calls:
        message["tool_calls"] = list(calls)
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": finish_reason,
        "stop_reason": stop_reason,
    }
    usage = {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4 + tokens}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "choices": [choice],
        "usage": usage,
    }


def chunk(
    finish_reason: str | None = None, usage: dict[str, int] | None = None, **delta: Any
) -> dict[str, Any]:
    """An event of a chat stream; one with `usage` has no choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    event: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk"}
    if usage is not None:
        return {**event, "choices": [], "usage": usage}
    return {**event, "choices": [choice]}


def chunks(whole: dict[str, Any]) -> list[dict[str, Any]]:
    """A completion as the events of a stream, its text in pieces of three characters."""
    (choice,) = whole["choices"]
    message = choice["message"]
    events = [chunk(role="assistant", content="")]
    for field in ("reasoning", "content"):
        text = message.get(field) or ""
        pieces: list[dict[str, Any]] = [{field: text[i : i + 3]} for i in range(0, len(text), 3)]
        events += [chunk(**piece) for piece in pieces]
    for index, made in enumerate(message.get("tool_calls") or ()):
        function = made["function"]
        first = {**made, "index": index, "function": {**function, "arguments": ""}}
        events.append(chunk(tool_calls=[first]))
        for i in range(0, len(function["arguments"]), 5):
            piece = {"arguments": function["arguments"][i : i + 5]}
            events.append(chunk(tool_calls=[{"index": index, "function": piece}]))
    last = chunk(finish_reason=choice["finish_reason"])
    last["choices"][0]["stop_reason"] = choice["stop_reason"]
    return [*events, last, chunk(usage=whole["usage"])]


def sse(events: Iterable[Any]) -> bytes:
    """Events as the body of a stream, with the [DONE] at its end."""
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def streamed(events: Iterable[Any]) -> httpx.Response:
    return httpx.Response(200, content=sse(events), headers={"content-type": "text/event-stream"})


def error(message: str = "wrong", status: int = 400, **fields: Any) -> httpx.Response:
    content = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return httpx.Response(status, json={"error": content | fields})


def always(body: Any, headers: dict[str, str] | None = None) -> Handler:
    """Gives every request one answer, streamed if the request asks for it."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(body, httpx.Response):
            return body
        asked = json.loads(request.content) if request.content else {}
        if isinstance(asked, dict) and asked.get("stream"):
            events = chunks(body)
            return streamed(events if asked.get("stream_options") else events[:-1])
        return httpx.Response(200, json=body, headers=headers)

    return handle
