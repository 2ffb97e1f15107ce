"""A request's connection: a body in pieces, a stream token by token, a client that goes away."""

import asyncio
import json
from typing import Any

import pytest

from serving.engine.vllm.front_end import FrontEnd
from tests.engine.asking import BODIES, CHAT, NAMES, Exchange
from tests.engine.fake_llm import WAITS, FakeLlm, text
from tests.support.reading import RULES
from tests.support.waiting import eventually


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
