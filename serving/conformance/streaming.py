"""Streamed answers: every case of the suite, and the form of the events."""

from .answer import Answer, parsed
from .cases import CASES, Body, asked
from .check import Check, Theme
from .events import DONE
from .expect import expect
from .server import CHAT, Server

theme = Theme("streaming")
check = theme.check

# A real model samples, or differs by a token with the batch that it runs in.
_COMPARED_REAL_TOKENS = 200


@check()
async def the_first_delta_has_the_role_and_done_is_last(server: Server) -> None:
    """The first delta has the role, perhaps with an empty text, and the last event is [DONE]."""
    async with server.events(CHAT, asked("Hello", stream=True)) as (stream, _):
        received = [event async for event in stream]
    first = received[0].json()["choices"][0]["delta"]
    expect(first.get("role") == "assistant", f"the first delta is {first}")
    expect(received[-1].data == DONE, f"the last event is {received[-1].data[:100]!r}")
    expect(all(event.json()["choices"] for event in received[:-1]), "an event without a choice")


@check()
async def usage_comes_in_a_last_event_when_asked(server: Server) -> None:
    """`stream_options.include_usage` adds the usage at the end (OpenAI's API)."""
    answer = await server.stream(asked("Hello"))
    expect(answer.completion_tokens, "no usage")


@check()
async def a_call_comes_as_id_and_name_and_then_arguments(server: Server) -> None:
    """A tool call begins with id and name; its arguments come in pieces that join to JSON."""
    body = {**server.body("a tool call"), "stream": True}
    async with server.events(CHAT, body) as (stream, _):
        choices = [e.json()["choices"][0] async for e in stream if e.data != DONE]
    parts = [part for choice in choices for part in choice["delta"].get("tool_calls") or ()]
    expect(parts, "no tool call")
    expect(parts[0].get("id") and parts[0]["function"].get("name"), f"first {parts[0]}")
    expect(parts[0].get("type") == "function", f"first {parts[0]}")
    expect(all(part["index"] == 0 for part in parts), "another index")
    if server.model.tiny:
        expect(len(parts) > 2, "the arguments come in one piece")
    arguments = "".join(part["function"].get("arguments") or "" for part in parts)
    expect(isinstance(parsed(arguments, "the arguments"), dict), f"arguments {arguments!r}")
    expect(choices[-1]["finish_reason"] == "tool_calls", f"{choices[-1]}")


@check()
async def text_comes_while_it_is_made(server: Server) -> None:
    """The text comes in several events, none with the whole of it (OpenAI's API)."""
    async with server.events(CHAT, {**server.body("a long count"), "stream": True}) as (stream, _):
        choices = [e.json()["choices"][0] async for e in stream if e.data != DONE]
    pieces = [choice["delta"].get("content") or "" for choice in choices]
    expect(len("".join(pieces)) > 20, "no text")
    expect(max(map(len, pieces)) < len("".join(pieces)) / 2, "the text comes in one piece")


def _compare(whole: Answer, joined: Answer, exact: bool) -> None:
    """Fails where two answers differ in what a client sees; the server may choose other ids for
    calls."""
    views = [
        {
            "finish_reason": answer.finish_reason,
            "stop_reason": answer.stop_reason,
            "calls": [(c.name, c.parsed() if exact else None) for c in answer.calls],
            "content": answer.content if exact else bool(answer.content),
            "reasoning": answer.reasoning if exact else bool(answer.reasoning),
            "completion_tokens": answer.completion_tokens if exact else None,
        }
        for answer in (whole, joined)
    ]
    for field, value in views[0].items():
        expect(value == views[1][field], f"{field}: {views[1][field]!r}, unstreamed {value!r}")


def _equality(case: str) -> Check:
    async def run(server: Server) -> None:
        body: Body = server.body(case)
        if not server.model.tiny:
            body["max_tokens"] = min(body["max_tokens"], _COMPARED_REAL_TOKENS)
            whole = await server.chat(body)
        else:
            whole = await server.answer(case)
        _compare(whole, await server.stream(body), exact=server.model.tiny)

    return Check(
        theme.name,
        f"the same streamed: {case}",
        "Pieces joined equal the unstreamed answer.",
        run,
        CASES[case].needs,
    )


theme.checks += map(_equality, CASES)
