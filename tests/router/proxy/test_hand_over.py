"""Streams of a replica that drains go on at another one before it ends, and the client sees one
unbroken answer."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from serving.router.replicas.replica import ReplicaInfo
from tests.router.proxy.test_stream_resumption import (
    each_endpoint,
    events,
    seen,
    story,
    text_of,
)
from tests.router.telemetry.test_metrics import scrape
from tests.support.engines import UNAVAILABLE
from tests.support.live_router import CHAT, MODEL, LiveRouter, StartRouter
from tests.support.storyteller import STORY, Storyteller, breaking, resets
from tests.support.waiting import eventually

QUICK = {"check_period_s": 0.02}
USAGE = {"stream_options": {"include_usage": True}}


class Draining(Storyteller):
    """Tells slowly. Once `left_s` is set it drains, or will as its node goes, and says that this
    time is left."""

    token_s = 0.02
    left_s: int | None = None
    drains = True

    def answer_health(self) -> None:
        if self.left_s is None:
            super().answer_health()
        else:
            left = b"x-engine-drain-left-s: %d\r\ncontent-length: 0\r\n\r\n" % self.left_s
            self.transport.write((UNAVAILABLE if self.drains else b"HTTP/1.1 200 OK\r\n") + left)


def drain(router: LiveRouter, left_s: int, to: Sequence[ReplicaInfo] | None = None) -> None:
    """Has the first replica drain, as when Ray Serve stops it, and the others run on."""
    engine = router.engines[0]
    assert issubclass(engine, Draining)
    engine.left_s = left_s
    router.directory.update(MODEL, router.infos[1:] if to is None else to)


async def drained_story(
    router: LiveRouter, path: str, left_s: int, **fields: Any
) -> tuple[httpx.Response, dict[str, Any]]:
    """Returns a stream that the first replica has begun when it drains, and the request's line."""
    answer = asyncio.create_task(story(router, path, **fields))
    metrics = router.directory.models[MODEL].metrics
    await eventually(lambda: len(metrics.ttft) > 0)
    drain(router, left_s)
    response = await answer
    await eventually(lambda: bool(router.lines))
    return response, json.loads(router.lines[0])


@each_endpoint
async def test_a_stream_that_cannot_end_in_time_goes_on_elsewhere(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(Draining, Storyteller, **QUICK)
    answer, line = await drained_story(router, path, 1, **USAGE)
    undisturbed = await story(router, path, **USAGE)
    assert answer.headers["x-replica"] == "replica-0"
    assert seen(answer) == seen(undisturbed)
    assert len({event["created"] for event in events(answer)}) == 1
    assert router.engines[1].requests == 2
    assert (line["handed_over"], line["continued"], line["retries"]) == (1, 1, 0)
    assert (line["outcome"], line["output_tokens"]) == ("answered", len(STORY))
    of_router = await scrape(router, 2)
    assert of_router["handed_over_streams_total"] == 1
    assert of_router["retries_total"] == 0
    assert not any(router.directory.models[MODEL].trials.guard.deaths.values())


async def test_it_leaves_before_the_replica_drains_if_the_node_goes(
    start_router: StartRouter,
) -> None:
    router = await start_router(Draining, Storyteller, **QUICK)
    engine = router.engines[0]
    assert issubclass(engine, Draining)
    engine.drains = False
    answer = asyncio.create_task(story(router, CHAT))
    metrics = router.directory.models[MODEL].metrics
    await eventually(lambda: len(metrics.ttft) > 0)
    engine.left_s = 1
    assert text_of(events(await answer)) == "".join(STORY)
    await eventually(lambda: bool(router.lines))
    line = json.loads(router.lines[0])
    assert (line["handed_over"], line["continued"], line["retries"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("others", "left_s", "n"),
    [
        pytest.param([Storyteller], 1000, 1, id="it can end in time"),
        pytest.param([Storyteller], 1, 2, id="no other engine could continue it"),
        pytest.param([], 1, 1, id="there is no other replica"),
    ],
)
async def test_a_stream_stays(
    start_router: StartRouter, others: list[type[Storyteller]], left_s: int, n: int
) -> None:
    router = await start_router(Draining, *others, **QUICK)
    answer, line = await drained_story(router, CHAT, left_s, n=n)
    assert text_of(events(answer)) == "".join(STORY)
    assert line["handed_over"] == sum(other.requests for other in router.engines[1:]) == 0


async def test_it_may_be_handed_over_more_than_once(start_router: StartRouter) -> None:
    router = await start_router(Draining, Draining, Storyteller, **QUICK)
    answer = asyncio.create_task(story(router, CHAT))
    await eventually(lambda: router.engines[0].requests == 1)
    for n, engine in enumerate(router.engines[:2]):
        assert issubclass(engine, Draining)
        engine.left_s = 1
        router.directory.update(MODEL, router.infos[n + 1 :])
        await eventually(lambda n=n: router.engines[n + 1].requests == 1)  # type: ignore[misc]
    assert text_of(events(await answer)) == "".join(STORY)
    await eventually(lambda: bool(router.lines))
    assert json.loads(router.lines[0])["handed_over"] == 2


async def test_a_failure_afterwards_is_one(start_router: StartRouter) -> None:
    router = await start_router(Draining, breaking(1, resets), Storyteller, **QUICK)
    router.directory.update(MODEL, router.infos[:2])
    answer = asyncio.create_task(story(router, CHAT))
    await eventually(lambda: router.engines[0].requests == 1)
    drain(router, 1, to=router.infos[1:2])
    await eventually(lambda: router.engines[1].requests == 1)
    router.directory.update(MODEL, router.infos[1:])
    assert text_of(events(await answer)) == "".join(STORY)
    await eventually(lambda: bool(router.lines))
    line = json.loads(router.lines[0])
    assert (line["handed_over"], line["retries"], line["continued"]) == (1, 1, 2)


async def test_all_of_many_go(start_router: StartRouter) -> None:
    router = await start_router(Draining, Storyteller, **QUICK)
    router.directory.update(MODEL, router.infos[:1])
    answers = [asyncio.create_task(story(router, CHAT)) for _ in range(20)]
    metrics = router.directory.models[MODEL].metrics
    await eventually(lambda: len(metrics.ttft) == 20)
    drain(router, 1)
    assert {text_of(events(await answer)) for answer in answers} == {"".join(STORY)}
    await eventually(lambda: len(router.lines) == 20)
    assert [json.loads(line)["handed_over"] for line in router.lines] == [1] * 20
    assert await router.loads() == [(0, 0)]


@each_endpoint
async def test_a_client_that_leaves_meanwhile_leaves_nothing(
    start_router: StartRouter, path: str
) -> None:
    router = await start_router(Draining, Draining, **QUICK)
    answer = asyncio.create_task(story(router, path))
    await eventually(lambda: router.engines[0].requests == 1)
    drain(router, 1)
    await eventually(lambda: router.engines[1].requests == 1)
    answer.cancel()
    await eventually(lambda: bool(router.lines))
    line = json.loads(router.lines[0])
    assert (line["outcome"], line["handed_over"]) == ("client_gone", 1)
