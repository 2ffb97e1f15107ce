"""Routers are killed at any time, and the ledger holds what the engines have counted: all of it of
routers that stopped in order, and of a killed one all until its last sign of life."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from serving.engine.usage_journal import Meter
from serving.ledger.entry import ROUTER_ENDED, Entry, read_lines
from serving.ledger.folder import CLOSED_S, LedgerFolder, snapshot_name
from serving.router.ledger.ledger import PERIOD_S
from serving.router.replicas.upstream import ConnectionPool, UpstreamError
from tests.bench.relay_process import HOST, Server, running
from tests.router.ledger.router_process import MODEL
from tests.support.engines import Engine, fresh
from tests.support.http_server import running as listening
from tests.support.live_router import CHAT
from tests.support.waiting import wait_for

_CLIENTS = 24
_LEAVES = 0.1
"""The share of clients that leave within the answer."""


@dataclass(frozen=True)
class Step:
    """Tokens that an engine read and generated at a time, and for which router."""

    router: str
    at: datetime
    read: int
    generated: int


class CountingEngine(Engine):
    """Notes what it does."""

    interval_s = 0.02
    log: list["Step"]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.log = []

    def count(self, meter: Meter | None, tokens: int, prompt_tokens: int = 5) -> None:
        before = self.read_tokens, self.generated_tokens
        super().count(meter, tokens, prompt_tokens)
        router = (self.latest.header(b"x-usage-id") or b"").decode().rpartition("/")[0]
        read, generated = self.read_tokens - before[0], self.generated_tokens - before[1]
        self.log.append(Step(router, datetime.now(UTC), read, generated))


class Routers:
    """Router processes, of which any may be killed."""

    def __init__(self, folder: Path, ports: list[int], random: random.Random) -> None:
        self.killed: set[str] = set()
        self._folder = folder
        self._ports = ports
        self._random = random
        self._stacks: dict[str, contextlib.ExitStack] = {}
        self._servers: dict[str, Server] = {}
        self._pools: dict[str, ConnectionPool] = {}

    async def start(self) -> None:
        name = f"router-{len(self._servers)}"
        stack = self._stacks[name] = contextlib.ExitStack()
        module = "tests.router.ledger.router_process"
        process = running(module, name, str(self._folder), *map(str, self._ports))
        self._servers[name] = await asyncio.to_thread(stack.enter_context, process)
        self._pools[name] = ConnectionPool(HOST, self._servers[name].port, 2)

    def pool(self) -> ConnectionPool:
        """Returns connections to any router that runs."""
        return self._pools[self._random.choice(list(self._pools))]

    def kill(self) -> None:
        """Kills one and leaves nothing of it but its files."""
        name = self._random.choice(list(self._servers))
        self.killed.add(name)
        del self._servers[name]
        self._pools.pop(name).close()
        self._stacks.pop(name).close()  # SIGKILL

    async def stop(self) -> None:
        """Stops the others in order."""
        for name, server in self._servers.items():
            self._pools[name].close()
            os.kill(server.pid, signal.SIGUSR1)
        for name in self._servers:
            snapshot = self._folder / snapshot_name(name)
            await asyncio.to_thread(wait_for, partial(missing, snapshot), 20)
        self.close()

    def close(self) -> None:
        for stack in self._stacks.values():
            stack.close()


def missing(path: Path) -> bool:
    return not path.exists()


async def ask(pool: ConnectionPool, dice: random.Random) -> bool:
    """Asks, and leaves within the answer at times. Returns whether the router answered."""
    streams = dice.random() < 0.7
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Hello " * dice.randrange(30)}],
            "stream": streams,
            "max_tokens": dice.randrange(1, 12),
        }
    ).encode()
    head = b"POST %b HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n" % CHAT.encode()
    try:
        connection = await pool.request(head + b"content-length: %d\r\n\r\n" % len(body), body)
        try:
            while await connection.read():
                if streams and dice.random() < _LEAVES / 6:
                    break
        finally:
            pool.release(connection)
    except UpstreamError:
        return False
    return connection.status == 200


async def load(routers: Routers, requests: int, kills: int, dice: random.Random) -> int:
    """Sends requests, and kills routers in between. Returns how many were answered."""
    left, answered = requests, 0
    kill_at = sorted(dice.sample(range(requests // 10, requests * 9 // 10), kills))

    async def client() -> None:
        nonlocal left, answered
        while left > 0:
            left -= 1
            answered += await ask(routers.pool(), dice)

    clients = [asyncio.create_task(client()) for _ in range(_CLIENTS)]
    for at in kill_at:
        while requests - left < at:
            await asyncio.wait(clients, timeout=0.01)
        await asyncio.sleep(dice.random() * PERIOD_S)  # at any time between two writes
        routers.kill()
    await asyncio.gather(*clients)
    return answered


def kept(folder: LedgerFolder) -> dict[str, list[Entry]]:
    """Returns the entries of each router, which no file may have twice."""
    found: dict[str, list[Entry]] = {}
    for _, path in folder.segments():
        entries, _, damaged = read_lines(path.read_bytes())
        assert not damaged
        found.setdefault(path.name.split(".")[1], []).extend(entries)
    for entries in found.values():
        assert len({entry.id for entry in entries}) == len(entries)
    return found


def totals(steps: Sequence[Step]) -> tuple[int, int]:
    return sum(step.read for step in steps), sum(step.generated for step in steps)


@pytest.mark.parametrize(
    ("requests", "kills"),
    [(200, 1), pytest.param(10_000, 8, marks=pytest.mark.full)],
)
async def test_only_the_last_second_of_a_killed_router_is_missing(
    tmp_path: Path, requests: int, kills: int
) -> None:
    dice = random.Random(requests)
    engines = [fresh(CountingEngine) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(engine)) for engine in engines]
        routers = Routers(tmp_path, ports, dice)
        stack.callback(routers.close)
        for _ in range(kills + 1):
            await routers.start()
        answered = await load(routers, requests, kills, dice)
        await routers.stop()

    folder, now = LedgerFolder(tmp_path), datetime.now(UTC) + timedelta(seconds=CLOSED_S + 1)
    today = now.date()
    before = folder.report(today - timedelta(1), today, now, ())
    folder.tidy(now, keep_days=400, keep_entries_days=7)
    after = folder.report(today - timedelta(1), today, now, ())
    assert after == before
    gaps = {gap.router: gap for gap in after.gaps}
    assert gaps.keys() == routers.killed and len(gaps) == kills
    assert answered

    lost = 0
    for router, entries in kept(folder).items():
        steps = [step for engine in engines for step in engine.log if step.router == router]
        read = sum(entry.input_tokens + entry.repeated_input_tokens for entry in entries)
        generated = sum(entry.output_tokens + entry.wasted_output_tokens for entry in entries)
        incomplete = [entry for entry in entries if entry.outcome == ROUTER_ENDED]
        if router not in routers.killed:
            assert (read, generated) == totals(steps)
            assert not incomplete
            continue
        assert len(incomplete) == gaps[router].requests
        known = totals([step for step in steps if step.at < gaps[router].at])
        assert known[0] <= read <= totals(steps)[0]
        assert known[1] <= generated <= totals(steps)[1]
        lost += totals(steps)[1] - generated
    print(f"{lost} of {sum(engine.generated_tokens for engine in engines)} tokens are missing")
