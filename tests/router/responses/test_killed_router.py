"""Routers are killed while they run and relay responses, and no event is lost or told twice."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest
from httpx import HTTPError
from openai import AsyncOpenAI

from serving.config import ResponsesConfig
from tests.bench.relay_process import HOST, Server, running
from tests.router.ledger.router_process import MODEL
from tests.support.engines import fresh
from tests.support.http_server import running as listening
from tests.support.response_engine import CountingResponses

TOKENS = 150
_ENDS = ("response.completed", "response.failed")
_BROKEN = (openai.APIConnectionError, HTTPError)


class Client:
    """Reads a response to its end, at the other router once its own is gone."""

    def __init__(self, routers: list[AsyncOpenAI], at: int) -> None:
        self._routers = routers
        self._at = at
        self.events: list[Any] = []
        self.resumed = 0

    @property
    def has_ended(self) -> bool:
        return bool(self.events) and self.events[-1].type in _ENDS

    async def run(self) -> None:
        await self._read(
            self._routers[self._at].responses.create(
                model=MODEL, input="Hi", max_output_tokens=TOKENS, background=True, stream=True
            )
        )
        async with asyncio.timeout(400):
            while not self.has_ended:
                self._at = 1 - self._at
                self.resumed += 1
                after = len(self.events) - 1
                response_id = self.events[0].response.id
                responses = self._routers[self._at].responses
                await self._read(responses.retrieve(response_id, stream=True, starting_after=after))

    async def _read(self, answer: Any) -> None:
        with contextlib.suppress(*_BROKEN):
            async for one in await answer:
                self.events.append(one)


@contextlib.asynccontextmanager
async def started(folder: Path, ports: list[int]) -> Any:
    """Starts two routers, each in its process."""
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []
        for name in ("a", "b"):
            process = running(
                "tests.router.ledger.router_process", name, str(folder), *map(str, ports)
            )
            servers.append(await asyncio.to_thread(stack.enter_context, process))
        yield servers


@pytest.mark.parametrize("streams", [8, pytest.param(100, marks=pytest.mark.full)])
async def test_no_event_is_lost_or_doubled(
    tmp_path: Path, stored: ResponsesConfig, streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stored.redis_url is not None:
        monkeypatch.setenv("TEST_REDIS_URL", stored.redis_url)
    engines = [fresh(CountingResponses) for _ in range(2)]
    for engine in engines:
        engine.interval_s = 0.02
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(engine)) for engine in engines]
        servers = await stack.enter_async_context(started(tmp_path, ports))
        routers = [
            await stack.enter_async_context(
                AsyncOpenAI(base_url=f"http://{HOST}:{one.port}/v1", api_key="k", max_retries=0)
            )
            for one in servers
        ]
        clients = [Client(routers, number % 2) for number in range(streams)]
        reading = [asyncio.create_task(client.run()) for client in clients]
        while min(len(client.events) for client in clients) < 10:
            await asyncio.wait(reading, timeout=0.01, return_when=asyncio.FIRST_EXCEPTION)
            assert not any(task.done() for task in reading)
        os.kill(servers[0].pid, signal.SIGKILL)
        await asyncio.gather(*reading)
    assert sum(client.resumed > 0 for client in clients) >= streams // 2
    for client in clients:
        events = client.events
        assert [one.sequence_number for one in events] == list(range(len(events)))
        assert [one.type in _ENDS for one in events[:-1]] == [False] * (len(events) - 1)
        deltas = [one.delta for one in events if one.type == "response.output_text.delta"]
        assert "".join(deltas) == CountingResponses.text(len(deltas))
    ended = [client.events[-1].type for client in clients]
    assert ended == ["response.completed"] * streams
    assert all(len(client.events) == TOKENS + 9 for client in clients)
    told = sum(len(client.events) for client in clients)
    print(f"{ended.count('response.completed')} of {streams} completed; {told} events, 0 lost")
