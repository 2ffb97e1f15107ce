"""Requests that end engines, at two routers of the same engines."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

import httpx
import pytest

from serving.dispatch import RateLimiter
from serving.poison import Guilty
from serving.router.peers.peers import PeerInfo, Peers
from serving.router.replicas.replica import ReplicaInfo
from tests.router.test_app import error_of
from tests.support.engines import fresh
from tests.support.live_router import MODEL, TOKEN, LiveRouter, StartRouter, running_engine
from tests.support.mortal_engine import CRASH, HANG, VANISH, Mortal
from tests.support.storyteller import STORY
from tests.support.waiting import eventually

RESTART_S = 0.5
"""Longer than it takes to find out what an engine died of, on a busy machine too."""
SETTINGS = {"check_period_s": 0.05, "backoff_s": 0.05, "max_wait_s": 600}


@dataclass
class Fleet:
    """Routers, and engines that come back after they have died: as another replica on another port,
    as a replica's new process does."""

    routers: list[LiveRouter]
    engines: list[type[Mortal]]
    """Those that were there from the beginning, then those that took the place of others."""
    infos: dict[type[Mortal], ReplicaInfo]
    restarts: asyncio.TaskGroup
    stack: contextlib.AsyncExitStack

    def __post_init__(self) -> None:
        for engine in self.engines:
            engine.on_death = partial(self._restart_soon, engine)

    @property
    def deaths(self) -> list[list[str]]:
        return [prompts for engine in self.engines for prompts in engine.deaths]

    def update(self) -> None:
        for router in self.routers:
            router.directory.update(MODEL, self.infos.values())

    def _restart_soon(self, dead: type[Mortal]) -> None:
        self.restarts.create_task(self._restart(dead))

    async def _restart(self, dead: type[Mortal]) -> None:
        await asyncio.sleep(RESTART_S)
        engine = fresh(Mortal)
        engine.on_death = partial(self._restart_soon, engine)
        port = await self.stack.enter_async_context(running_engine(engine))
        info = replace(self.infos.pop(dead), replica_id=f"replica-{len(self.engines)}", port=port)
        self.engines.append(engine)
        self.infos[engine] = info
        self.update()


@pytest.fixture
async def fleet(start_router: StartRouter) -> AsyncIterator[Fleet]:
    """Two routers that tell each other of two engines."""
    routers = [await start_router(Mortal, Mortal, **SETTINGS), await start_router(**SETTINGS)]
    routers[1].directory.update(MODEL, routers[0].infos)
    async with contextlib.AsyncExitStack() as stack:
        peers = []
        for number, router in enumerate(routers):
            one = Peers(router.directory, RateLimiter(), TOKEN, f"router-{number}")
            stack.push_async_callback(one.close)
            peers.append(
                (one, PeerInfo(f"router-{number}", "127.0.0.1", await one.listen("127.0.0.1")))
            )
        for one, _ in peers:
            one.update([info for _, info in peers])
        await eventually(lambda: all(one.subscribers for one, _ in peers))
        for router in routers:
            router.http.timeout = httpx.Timeout(60)
        engines = [engine for engine in routers[0].engines if issubclass(engine, Mortal)]
        infos = dict(zip(engines, routers[0].infos, strict=True))
        async with asyncio.TaskGroup() as restarts:
            yield Fleet(routers, engines, infos, restarts, stack)
        for router in routers:
            router.directory.update(MODEL, [])


def messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def ask(router: LiveRouter, text: str, stream: bool = True) -> httpx.Response:
    return await router.chat(messages=messages(text), stream=stream)


def memory(router: LiveRouter) -> list[Guilty]:
    return list(router.directory.models[MODEL].trials.guard.memory)


def by_poison(fleet: Fleet) -> dict[str, list[str]]:
    """The deaths by the prompt that was their cause."""
    found: dict[str, list[str]] = {}
    for engine in fleet.engines:
        for cause in engine.causes:
            found.setdefault(cause, []).append(cause)
    return found


def is_whole(answer: httpx.Response) -> bool:
    if answer.status_code != 200:
        return False
    parts = answer.text.split("\n\n")
    *events, done, _ = [part for part in parts if not part.startswith(":")]  # it may have waited
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    text = "".join(choice["delta"]["content"] for choice in choices)
    return done == "data: [DONE]" and text == "".join(STORY)


@pytest.mark.parametrize(("marker", "deaths"), [(CRASH, 1), (HANG, 1), (VANISH, 2)])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_only_suspect_of_a_death_that_the_engine_explains_is_guilty_at_once(
    fleet: Fleet, marker: str, deaths: int, stream: bool
) -> None:
    answer = await ask(fleet.routers[0], f"a {marker}", stream)
    assert error_of(answer, 500)["code"] == "request_crashes_engine"
    assert answer.headers["x-should-retry"] == "false"
    assert len(fleet.deaths) == deaths

    for router in fleet.routers:
        await eventually(lambda router=router: memory(router), within_s=1)  # type: ignore[misc]
        again = await ask(router, f"a {marker}", not stream)
        assert error_of(again, 500)["code"] == "request_crashes_engine"
    assert len(fleet.deaths) == deaths
    assert is_whole(await ask(fleet.routers[1], "hello"))


@pytest.mark.parametrize(
    ("markers", "clients"),
    [
        ([CRASH, VANISH], 4),
        pytest.param([CRASH, CRASH, CRASH, VANISH, HANG] * 2, 60, marks=pytest.mark.full),
    ],
)
async def test_poisons_sent_twenty_times_each_end_two_engines_each_and_no_innocent_is_lost(
    fleet: Fleet, markers: list[str], clients: int
) -> None:
    stopped = asyncio.Event()
    innocent: list[httpx.Response] = []

    async def innocents(number: int) -> None:
        while not stopped.is_set():
            innocent.append(await ask(fleet.routers[number % 2], f"innocent {number}"))

    asking = [asyncio.create_task(innocents(number)) for number in range(clients)]
    await eventually(lambda: len(innocent) >= clients, within_s=30)
    answers = []
    for number, marker in enumerate(markers):
        sent = (ask(fleet.routers[again % 2], f"{number} {marker}") for again in range(20))
        answers += await asyncio.gather(*sent)
    stopped.set()
    await asyncio.gather(*asking)
    assert {error_of(one, 500)["code"] for one in answers} == {"request_crashes_engine"}
    assert all(map(is_whole, innocent))
    assert {len(deaths) for deaths in by_poison(fleet).values()} <= {1, 2}
    assert len(by_poison(fleet)) == len(markers)
    for router in fleet.routers:
        await eventually(lambda router=router: len(memory(router)) == len(markers))  # type: ignore[misc]


async def test_a_suspect_waits_for_the_restart_where_there_is_one_replica(fleet: Fleet) -> None:
    one, other = fleet.routers
    del fleet.infos[fleet.engines[1]]
    fleet.update()
    innocent = [asyncio.create_task(ask(router, "hello")) for router in (one, other)]
    poison = asyncio.create_task(ask(one, f"a {VANISH}"))
    answers = await asyncio.gather(*innocent, poison)
    assert [is_whole(answer) for answer in answers] == [True, True, False]
    assert error_of(answers[2], 500)["code"] == "request_crashes_engine"
    assert len(fleet.deaths) == 2


async def test_a_poison_whose_client_leaves_early_is_tried_when_it_comes_again(
    fleet: Fleet,
) -> None:
    one, other = fleet.routers
    dying, living = fleet.engines
    one.directory.update(MODEL, one.infos[:1])
    dying.prefill_s = 1000
    impatient = asyncio.create_task(ask(one, f"a {CRASH}"))
    innocent = [asyncio.create_task(ask(one, f"hello {number}")) for number in range(4)]
    await eventually(lambda: dying.requests == 5)
    impatient.cancel()
    await eventually(lambda: len(dying.connections) == 4)
    dying.prefill_s = living.prefill_s
    dying.die(CRASH, CRASH)
    assert all(map(is_whole, await asyncio.gather(*innocent)))
    again = await ask(other, f"a {CRASH}")
    assert error_of(again, 500)["code"] == "request_crashes_engine"
    assert len(fleet.deaths) == 2


async def test_an_operator_sees_and_clears_the_list_at_all_routers(fleet: Fleet) -> None:
    one, other = fleet.routers
    await ask(one, f"a {CRASH}")
    await eventually(lambda: memory(other))
    (listed,) = (await other.http.get("/-/poison")).json()["guilty"]
    assert (listed["model"], listed["reason"]) == (MODEL, "crash")
    digest = listed["digest"]
    unknown = await other.http.delete("/-/poison/00")
    assert error_of(unknown, 404)["code"] == "not_found"
    assert (await other.http.delete(f"/-/poison/{digest}")).json() == {"cleared": 1}
    await eventually(lambda: not memory(one))
    await ask(one, f"a {CRASH}")
    assert len(fleet.deaths) == 2
    assert (await one.http.delete("/-/poison")).json() == {"cleared": 1}
    await eventually(lambda: not memory(other))


async def test_metrics_tell_of_deaths_verdicts_and_refusals(fleet: Fleet) -> None:
    for _ in range(3):
        await ask(fleet.routers[0], f"a {CRASH}")
    text = (await fleet.routers[0].http.get("/metrics")).text
    for name, labels, value in (
        ("engine_deaths", f'model="{MODEL}",reason="crash"', 1),
        ("poison_judged_requests", f'model="{MODEL}"', 1),
        ("poison_refused_requests", f'model="{MODEL}"', 3),
    ):
        assert f"mistral_serve_{name}_total{{{labels}}} {value:.1f}" in text
