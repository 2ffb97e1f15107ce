"""Requests that end vLLM's engine, at two routers and two engines of real vLLM under streams."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop

from serving.dispatch import RateLimiter
from serving.model_rules import rules_of
from serving.router.peers.peers import PeerInfo, Peers
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from tests.e2e.engine_farm import CONFIG, Farm, running_farm
from tests.e2e.killed_engine import LASTS, Stream
from tests.support.ending_logits import OUT_OF_MEMORY
from tests.support.live_router import CHAT, MODEL, TOKEN, LiveRouter, running_router
from tests.support.waiting import eventually

STREAMS = 60
TOKENS = 200
"""Length of the shortest innocent stream; each other one is a token longer."""
SENT = 20
"""How often each poison is sent."""
ALONE = ("raises", "exits", "hangs", "raises", "exits")
"""How the engines end that have one request without a token."""
AT_ONCE = ("raises", "exits", "hangs", "runs out", "runs out")
"""How those end that have many, as poisons and streams begin at the same time."""
_KNOWN_S = 1.0
"""The longest time between the verdict and its arrival at the other router."""
_START_S = 300


@dataclass
class Fleet:
    """Two routers of two engines, of which one that dies is replaced, as Ray Serve does."""

    routers: list[LiveRouter]
    farm: Farm
    infos: dict[str, ReplicaInfo] = field(default_factory=dict)

    def is_up(self, info: ReplicaInfo) -> None:
        self._update(self.infos | {info.replica_id: info})

    def died(self, replica_id: str) -> None:
        self._update({name: info for name, info in self.infos.items() if name != replica_id})
        self.farm.start_one()

    def _update(self, infos: dict[str, ReplicaInfo]) -> None:
        self.infos = infos
        for router in self.routers:
            router.directory.update(MODEL, infos.values())

    async def guilty(self) -> list[dict[str, float]]:
        """Returns how long ago each router's guilty requests were judged, by their digests."""
        answers = [await router.http.get("/-/poison") for router in self.routers]
        return [
            {one["digest"]: one["judged_s_ago"] for one in answer.json()["guilty"]}
            for answer in answers
        ]

    def begin_streams(self) -> tuple[list[Stream], list["asyncio.Task[Stream]"]]:
        streams = [Stream() for _ in range(STREAMS)]
        tasks = [
            asyncio.create_task(stream.receive(self.routers[number % 2].http, innocent(number)))
            for number, stream in enumerate(streams)
        ]
        return streams, tasks

    async def send(self, body: dict[str, Any], first: int, last: int) -> list[httpx.Response]:
        """Sends a poison again and again at once, to one router and the other in turns."""
        routers = (self.routers[number % 2] for number in range(first, last))
        return await asyncio.gather(*(router.http.post(CHAT, json=body) for router in routers))


def innocent(number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Tell me of the number {number}."}]
    fields = {"model": MODEL, "messages": messages, "max_tokens": TOKENS + number}
    return LASTS | fields | {"ignore_eos": True}


def poison(number: int, ends: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"Hello {number}"}]
    return {"model": MODEL, "messages": messages, "vllm_xargs": {"ends": ends}}


@contextlib.asynccontextmanager
async def running_fleet(folder: Path) -> AsyncIterator[Fleet]:
    async with contextlib.AsyncExitStack() as stack:
        farm = await stack.enter_async_context(running_farm(folder))
        routers = [
            await stack.enter_async_context(
                running_router(
                    models=[Model(MODEL, rules=rules_of(CONFIG))],
                    backoff_s=1,
                    check_period_s=5,
                    check_timeout_s=60,
                    startup_s=_START_S,
                    max_wait_s=_START_S,
                )
            )
            for _ in range(2)
        ]
        peers = []
        for number, router in enumerate(routers):
            router.http.timeout = httpx.Timeout(None)
            one = Peers(router.directory, RateLimiter(), TOKEN, f"router-{number}")
            stack.push_async_callback(one.close)
            port = await one.listen("127.0.0.1")
            peers.append((one, PeerInfo(f"router-{number}", "127.0.0.1", port)))
        for one, _ in peers:
            one.update([info for _, info in peers])
        await eventually(lambda: all(one.subscribers for one, _ in peers))
        fleet = Fleet(routers, farm)
        farm.on_up, farm.on_death = fleet.is_up, fleet.died
        for _ in range(2):
            farm.start_one()
        await eventually(lambda: len(fleet.infos) == 2, _START_S)
        yield fleet
        farm.on_death = lambda _: None
        fleet._update({})


async def one_poison(fleet: Fleet, number: int, ends: str, alone: bool) -> int:
    """Sends it while streams run, or begin. Returns of how many deaths it is the cause."""
    deaths, body = len(fleet.farm.deaths), poison(number, ends)
    known = set((await fleet.guilty())[0])
    streams, tasks = fleet.begin_streams()
    answers: list[httpx.Response] = []
    if alone:
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        answers = await fleet.send(body, 0, 1)
    answers += await fleet.send(body, len(answers), SENT)
    asked_s = time.monotonic()
    one, other = await fleet.guilty()
    asked_for_s = time.monotonic() - asked_s
    (digest,) = one.keys() - known
    assert other.keys() == one.keys()
    assert abs(one[digest] - other[digest]) < _KNOWN_S + asked_for_s
    for answer in answers:
        assert answer.status_code == (400 if ends == "runs out" else 500)
        assert answer.json()["error"]["code"] == "request_crashes_engine"
        assert ("CUDA out of memory" in answer.text) == (ends == "runs out")
    for number, stream in enumerate(await asyncio.gather(*tasks)):
        _, finish_reason, usage = stream.answer()
        assert (finish_reason, usage["completion_tokens"]) == ("length", TOKENS + number)
    return len(fleet.farm.deaths) - deaths


async def judge_all(folder: Path) -> None:
    async with running_fleet(folder) as fleet:
        for number, ends in enumerate(ALONE + AT_ONCE):
            alone, began_s = number < len(ALONE), time.monotonic()
            deaths = await one_poison(fleet, number, ends, alone)
            print(f"{ends}: {deaths} deaths, {time.monotonic() - began_s:.0f} s")
            assert deaths == 1 if alone else 1 <= deaths <= 2
        told = [line for line in fleet.farm.log().splitlines() if "the engine died (" in line]
        assert len(told) == len(fleet.farm.deaths)
        assert any("(cuda_out_of_memory): " in line and OUT_OF_MEMORY in line for line in told)
        assert all(len(guilty) == len(ALONE + AT_ONCE) for guilty in await fleet.guilty())


@pytest.mark.full
def test_a_request_that_ends_the_engine_is_refused_and_no_other_is_lost(tmp_path: Path) -> None:
    uvloop.run(judge_all(tmp_path))
