"""A replica that fails is ejected and probed until it is healthy; one that hangs is aborted."""

import asyncio
from typing import Any

import httpx
import pytest

from serving.router.replicas.health import HealthCheck
from tests.router.test_app import error_of
from tests.support.engines import UNAVAILABLE, Engine, Refuses, ResetsBeforeHead, Steered
from tests.support.live_router import CHAT, IMPATIENT, MODEL, TOKEN, LiveRouter, StartRouter
from tests.support.waiting import eventually

QUICK = {"check_period_s": 0.02, "backoff_s": 0.02}
# Where replicas are silent: on a busy machine others too take longer to answer.
SOON_SILENT = QUICK | {"check_timeout_s": 0.1}


class Watched(Steered):
    """Counts health probes; does not answer them if `silent`, or reports that it drains or that its
    node goes."""

    asked_for_health = 0
    silent = False
    drains = False
    node_goes = False
    authorization: bytes | None = None

    def answer_health(self) -> None:
        cls = type(self)
        cls.asked_for_health += 1
        cls.authorization = self.latest.header(b"authorization")
        if cls.drains:
            self.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")
        elif cls.node_goes:
            head = b"HTTP/1.1 200 OK\r\nx-engine-drain-left-s: 600\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head)
        elif not cls.silent:
            super().answer_health()


def watched(router: LiveRouter, index: int = 0) -> type[Watched]:
    engine = router.engines[index]
    assert issubclass(engine, Watched)
    return engine


def ejected(router: LiveRouter) -> list[bool]:
    return [replica.health.ejected for replica in router.directory.models[MODEL].replicas]


def test_the_backoff_grows_to_a_bound() -> None:
    check = HealthCheck("token", backoff_s=5, max_backoff_s=60)
    assert [check.backoff_after(n) for n in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    assert check.backoff_after(10_000) == 60


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_prefill_is_no_hang(start_router: StartRouter, stream: bool) -> None:
    """A prefill may take any time without a byte, as long as the engine answers probes."""
    router = await start_router(Watched, Engine, **QUICK)
    answer, connection = await router.begin(stream=stream)
    await eventually(lambda: watched(router).asked_for_health >= 10)
    assert watched(router).authorization == b"Bearer " + TOKEN.encode()
    connection.proceed()
    assert (await answer).headers["x-replica"] == "replica-0"
    assert router.engines[1].requests == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_replica_that_hangs_is_aborted_before_the_first_byte(
    start_router: StartRouter, path: str, stream: bool
) -> None:
    router = await start_router(Watched, Engine, **SOON_SILENT)
    watched(router).silent = True
    question = "input" if path == "/v1/responses" else "prompt"
    body: dict[str, Any] = {"model": MODEL, "stream": stream, question: "a"}
    response = await router.http.post(path, json=body)
    assert response.headers["x-replica"] == "replica-1"
    assert ejected(router) == [True, False]
    assert await router.loads() == [(0, 0), (0, 0)]


async def test_a_hang_on_a_kept_connection_is_not_tried_on_a_new_one(
    start_router: StartRouter,
) -> None:
    router = await start_router(Watched, **SOON_SILENT, **IMPATIENT)
    answer = asyncio.create_task(router.chat())
    (await router.asked()).proceed()
    await answer
    watched(router).silent = True
    assert error_of(await router.chat(), 503)["code"] == "no_replica"
    assert router.engines[0].requests == 2


async def test_a_replica_that_hung_is_asked_until_it_answers(start_router: StartRouter) -> None:
    router = await start_router(Watched, Engine, **SOON_SILENT)
    watched(router).silent = True
    await router.chat()
    await router.asked()
    asked = watched(router).asked_for_health
    await eventually(lambda: watched(router).asked_for_health >= asked + 2)
    assert ejected(router) == [True, False]
    watched(router).silent = False
    await eventually(lambda: ejected(router) == [False, False])
    answer = asyncio.create_task(router.chat())
    (await router.asked()).proceed()
    assert (await answer).headers["x-replica"] == "replica-0"


async def test_an_unreachable_replica_stays_ejected(start_router: StartRouter) -> None:
    router = await start_router(Refuses, Engine, **QUICK)
    for _ in range(3):
        assert (await router.chat()).headers["x-replica"] == "replica-1"
        await asyncio.sleep(0)
    assert ejected(router) == [True, False]


async def test_a_replica_that_drains_finishes_what_it_has(start_router: StartRouter) -> None:
    router = await start_router(Watched, Engine, **QUICK)
    answer, connection = await router.begin()
    watched(router).drains = True
    await eventually(lambda: ejected(router) == [True, False])
    connection.proceed()
    assert (await answer).headers["x-replica"] == "replica-0"


async def test_a_replica_whose_node_goes_takes_requests_only_while_no_other_is_up(
    start_router: StartRouter,
) -> None:
    router = await start_router(Watched, Engine, **QUICK)
    served = router.directory.models[MODEL]
    router.directory.update(MODEL, router.infos[:1])
    (going,) = served.replicas
    running, connection = await router.begin()
    watched(router).node_goes = True
    await eventually(lambda: going.health.leaving)
    another = asyncio.create_task(router.chat())
    (await router.asked()).proceed()
    assert (await another).headers["x-replica"] == "replica-0"
    assert served.leaving == 0
    router.directory.update(MODEL, router.infos)
    assert served.leaving == 1
    for _ in range(3):
        assert (await router.chat()).headers["x-replica"] == "replica-1"
    connection.proceed()
    assert (await running).headers["x-replica"] == "replica-0"
    assert ejected(router) == [False, False]


async def test_one_that_left_is_watched_until_it_has_answered(start_router: StartRouter) -> None:
    router = await start_router(Watched, Engine, **SOON_SILENT)
    answer = asyncio.create_task(router.chat())
    await router.asked()
    router.directory.update(MODEL, router.infos[1:])
    watched(router).silent = True
    assert (await answer).headers["x-replica"] == "replica-1"


async def test_an_idle_replica_is_asked_nothing(start_router: StartRouter) -> None:
    router = await start_router(Watched, **QUICK)
    answer = asyncio.create_task(router.chat())
    (await router.asked()).proceed()
    await answer
    (replica,) = router.directory.models[MODEL].replicas
    await eventually(lambda: replica.health._watching is None)
    assert watched(router).asked_for_health == 0


async def test_many_failures_at_once_count_as_one(start_router: StartRouter) -> None:
    router = await start_router(ResetsBeforeHead, Engine)
    answers = await asyncio.gather(*(router.chat() for _ in range(20)))
    assert {answer.headers["x-replica"] for answer in answers} == {"replica-1"}
    failing, _ = router.directory.models[MODEL].replicas
    assert failing.health._failures == 1


async def test_a_request_that_makes_engines_fail_does_not_go_round(
    start_router: StartRouter,
) -> None:
    router = await start_router(*[ResetsBeforeHead] * 6)
    assert error_of(await router.chat(), 503)["code"] == "replicas_failed"
    assert sum(engine.requests for engine in router.engines) == 4


async def test_refusals_cost_no_retries(start_router: StartRouter) -> None:
    router = await start_router(*[Refuses] * 6, Engine)
    response: httpx.Response = await router.chat()
    assert response.headers["x-replica"] == "replica-6"
