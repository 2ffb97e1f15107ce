import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Message, Send

from serving.engine.prompt_tokens import PromptTokensHeaders, note, note_prompt

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
BODY = {"type": "http.response.body", "body": b"first", "more_body": True}
END = {"type": "http.response.body", "body": b""}

Behaviour = Callable[[Send], Awaitable[None]]


async def answer(behaviour: Behaviour) -> list[Message]:
    """Returns what is sent of the answer of an engine with that behaviour."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await behaviour(send)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await PromptTokensHeaders(app)({"type": "http"}, receive, send)
    except ZeroDivisionError:
        sent.append({"type": "broken"})
    return sent


def head_with(tokens: bytes, cached_tokens: bytes) -> Message:
    counts = [(b"x-prompt-tokens", tokens), (b"x-cached-tokens", cached_tokens)]
    return HEAD | {"headers": [(b"a", b"b"), *counts]}


@pytest.mark.parametrize("cached", [0, 17])
async def test_the_head_of_a_stream_waits_until_the_prompt_was_read(cached: int) -> None:
    async def engine(send: Send) -> None:
        await send(dict(HEAD))
        note_prompt()
        await asyncio.sleep(0)
        note(20, cached)
        await send(BODY)
        await send(END)

    assert await answer(engine) == [head_with(b"20", b"%d" % cached), BODY, END]


async def test_the_prompts_of_a_request_are_added_up() -> None:
    async def prompt(tokens: int, cached: int) -> None:
        note_prompt()
        await asyncio.sleep(0)
        note(tokens, cached)

    async def engine(send: Send) -> None:
        await asyncio.gather(prompt(30, 3), prompt(40, 4))
        await send(dict(HEAD))
        await send(END)

    assert await answer(engine) == [head_with(b"70", b"7"), END]


async def test_what_is_not_known_when_the_answer_begins_is_not_reported() -> None:
    async def engine(send: Send) -> None:
        note_prompt()
        note_prompt()
        note(30, 3)
        await send(dict(HEAD))
        await send(BODY)
        note(40, 4)
        await send(END)

    assert await answer(engine) == [HEAD, BODY, END]


async def test_an_answer_that_reads_no_prompt_has_no_header() -> None:
    async def engine(send: Send) -> None:
        await send(dict(HEAD))
        await send(END)

    assert await answer(engine) == [HEAD, END]


async def test_an_answer_that_fails_after_its_head_is_broken_and_not_an_answer() -> None:
    async def engine(send: Send) -> None:
        await send(dict(HEAD))
        raise ZeroDivisionError

    assert await answer(engine) == [HEAD, {"type": "broken"}]


async def test_requests_at_once_do_not_add_to_each_other() -> None:
    async def engine(send: Send) -> None:
        note_prompt()
        await asyncio.sleep(0)
        note(50, 5)
        await send(dict(HEAD))
        await send(END)

    answers = await asyncio.gather(*(asyncio.create_task(answer(engine)) for _ in range(3)))
    assert answers == [[head_with(b"50", b"5"), END]] * 3


async def test_outside_of_a_request_nothing_is_noted() -> None:
    note_prompt()
    note(10, 1)
