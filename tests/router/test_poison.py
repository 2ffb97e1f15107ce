"""Requests that end engines, at two routers of the same engines."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx
import pytest

from serving.router.peers.peers import PeerInfo, Peers
from tests.router.test_app import error_of
from tests.support.live_router import MODEL, TOKEN, LiveRouter, StartRouter
from tests.support.mortal_engine import CRASH, HANG, VANISH, Mortal
from tests.support.storyteller import STORY
from tests.support.waiting import eventually

N = 12
RESTART_S = 0.2
SETTINGS = {"check_period_s": 0.05, "backoff_s": 0.05}


@dataclass
class Fleet:
    """Routers, and engines that start again after they have died, as another replica."""

    routers: list[LiveRouter]
    starts: int = 0

    def __post_init__(self) -> None:
        for index, engine in enumerate(self.engines):
            engine.on_death = lambda index=index: asyncio.get_running_loop().call_later(
                RESTART_S, self._restart, index
            )

    @property
    def engines(self) -> list[type[Mortal]]:
        return [engine for engine in self.routers[0].engines if issubclass(engine, Mortal)]

    @property
    def deaths(self) -> list[list[str]]:
        return [prompts for engine in self.engines for prompts in engine.deaths]

    def _restart(self, index: int) -> None:
        self.engines[index].revive()
        self.starts += 1
        infos = self.routers[0].infos
        infos[index] = replace(infos[index], replica_id=f"replica-{index}-{self.starts}")
        for router in self.routers:
            router.directory.update(MODEL, infos)


@pytest.fixture
async def fleet(start_router: StartRouter) -> AsyncIterator[Fleet]:
    """Two routers that tell each other of two engines."""
    routers = [await start_router(Mortal, Mortal, **SETTINGS), await start_router(**SETTINGS)]
    routers[1].directory.update(MODEL, routers[0].infos)
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number, router in enumerate(routers):
            one = Peers(router.directory, TOKEN, f"router-{number}")
            stack.push_async_callback(one.close)
            peers.append(
                (one, PeerInfo(f"router-{number}", "127.0.0.1", await one.listen("127.0.0.1")))
            )
        for one, _ in peers:
            one.update([info for _, info in peers])
        await eventually(lambda: all(one.subscribers for one, _ in peers))
        for router in routers:
            router.http.timeout = httpx.Timeout(60)
        yield Fleet(routers)
        for router in routers:
            router.directory.update(MODEL, [])


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def ask(router: LiveRouter, text: str, stream: bool = True) -> httpx.Response:
    return await router.chat(messages=messages(text), stream=stream)


def is_whole(answer: httpx.Response) -> bool:
    *events, done, _ = answer.text.split("\n\n")
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    text = "".join(choice["delta"]["content"] for choice in choices)
    return answer.status_code == 200 and done == "data: [DONE]" and text == "".join(STORY)


@pytest.mark.parametrize(("marker", "deaths"), [(CRASH, 1), (HANG, 1), (VANISH, 2)])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_only_suspect_of_a_death_that_the_engine_explains_is_guilty_at_once(
    fleet: Fleet, marker: str, deaths: int, stream: bool
) -> None:
    answer = await ask(fleet.routers[0], f"a {marker}", stream)
    assert error_of(answer, 500)["code"] == "request_crashes_engine"
    assert answer.headers["x-should-retry"] == "false"
    assert len(fleet.deaths) == deaths

    async with asyncio.timeout(1):
        for router in fleet.routers:
            while (await router.http.get("/-/poison")).json()["guilty"] == []:
                await asyncio.sleep(0)
    for router in fleet.routers:
        again = await ask(router, f"a {marker}", not stream)
        assert error_of(again, 500)["code"] == "request_crashes_engine"
    assert len(fleet.deaths) == deaths
    assert is_whole(await ask(fleet.routers[1], "hello"))


async def test_ten_poisons_sent_twenty_times_each_end_no_more_than_two_engines_each(
    fleet: Fleet,
) -> None:
    markers = [CRASH, CRASH, CRASH, VANISH, HANG] * 2
    stopped = asyncio.Event()
    innocent: list[httpx.Response] = []

    async def innocents(number: int) -> None:
        while not stopped.is_set():
            innocent.append(await ask(fleet.routers[number % 2], f"innocent {number}"))

    clients = [asyncio.create_task(innocents(number)) for number in range(N)]
    await eventually(lambda: len(innocent) >= N)
    async with asyncio.timeout(60):
        answers = []
        for number, marker in enumerate(markers):
            sent = (ask(fleet.routers[again % 2], f"{number} {marker}") for again in range(20))
            answers += await asyncio.gather(*sent)
        stopped.set()
        await asyncio.gather(*clients)
    print(len(innocent), Counter(one.status_code for one in innocent), len(fleet.deaths), [len(d) for d in fleet.deaths], [(n,sum(any(f'"{n} ' in prompt for prompt in prompts) for prompts in fleet.deaths)) for n in range(10)])
    assert {error_of(one, 500)["code"] for one in answers} == {"request_crashes_engine"}
    assert all(map(is_whole, innocent))
    counts = Counter(
        number
        for number in range(len(markers))
        if any(f'"{number} ' in prompt for prompts in fleet.deaths for prompt in prompts)
    )
    assert len(counts) == len(markers)
    assert len(fleet.deaths) <= 2 * len(markers)
    for router in fleet.routers:
        listed = (await router.http.get("/-/poison")).json()
        assert len(listed["guilty"]) == len(markers)
