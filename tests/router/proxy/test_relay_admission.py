"""Requests beyond the replicas' capacity: which wait, which are rejected, and with what error."""

import asyncio
from typing import Any

import httpx
import pytest

from serving.placement import Capacity
from tests.router.test_app import error_of
from tests.support.engines import Engine, Steered
from tests.support.live_router import MODEL, LiveRouter, StartRouter
from tests.support.waiting import eventually

ONE_AT_A_TIME = Capacity(kv_cache_tokens=100_000, max_num_seqs=1)


def waiting(router: LiveRouter) -> int:
    return router.directory.models[MODEL].dispatcher.waiting


async def wait_in_queue(router: LiveRouter, count: int) -> None:
    await eventually(lambda: waiting(router) == count)


def texts_of(router: LiveRouter) -> list[bytes]:
    return [received.body for received in router.engines[0].received]


async def test_a_replica_takes_no_more_than_its_batch(start_router: StartRouter) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME)
    answers = [asyncio.create_task(router.chat()) for _ in range(3)]
    for left in (2, 1, 0):
        connection = await router.asked()
        await wait_in_queue(router, left)
        assert [requests for requests, _ in await router.loads()] == [1]
        connection.proceed()
    assert [answer.status_code for answer in await asyncio.gather(*answers)] == [200] * 3


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param({"capacity": Capacity(1000, max_num_seqs=100)}, id="KV cache"),
        # A step is expected to take 18.5 ms, and 0.06 ms more for each 1,000 tokens of context.
        pytest.param({"max_itl_ms": 18.56}, id="inter-token latency"),
    ],
)
async def test_a_replica_takes_no_more_than_its_limit_allows(
    start_router: StartRouter, limit: dict[str, Any]
) -> None:
    router = await start_router(Steered, placement="round_robin", **limit)
    answers = [asyncio.create_task(router.chat(max_tokens=400)) for _ in range(3)]
    connections = [await router.asked(), await router.asked()]
    await wait_in_queue(router, 1)
    connections[0].proceed()
    (await router.asked()).proceed()
    connections[1].proceed()
    assert [(await answer).status_code for answer in answers] == [200] * 3


async def test_the_higher_priority_goes_first_then_who_came_first(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME)
    answers = [asyncio.create_task(router.chat(user="running"))]
    connection = await router.asked()
    for count, (user, priority) in enumerate(
        [("batch", "1"), ("first", ""), ("second", "5"), ("urgent", "9")], start=1
    ):
        headers: dict[str, str | bytes] = {"x-priority": priority} if priority else {}
        answers.append(asyncio.create_task(router.chat(headers, user=user)))
        await wait_in_queue(router, count)
    for _ in range(4):
        connection.proceed()
        connection = await router.asked()
    connection.proceed()
    await asyncio.gather(*answers)
    order = [body.split(b'"user":"')[1].split(b'"')[0] for body in texts_of(router)]
    assert order == [b"running", b"urgent", b"first", b"second", b"batch"]


async def test_past_the_bound_of_the_queue_it_is_a_429(start_router: StartRouter) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME, max_waiting=1, max_wait_s=600)
    answers = [asyncio.create_task(router.chat(n=1))]
    connection = await router.asked()
    answers.append(asyncio.create_task(router.chat(n=1)))
    await wait_in_queue(router, 1)
    response = await router.chat(n=1)
    error = error_of(response, 429)
    assert error["type"] == "rate_limit_error"
    assert error["code"] == response.headers["x-refused"] == "queue_full"
    assert int(response.headers["retry-after"]) >= 1
    connection.proceed()
    (await router.asked()).proceed()
    assert [(await answer).status_code for answer in answers] == [200] * 2


@pytest.mark.parametrize(
    ("max_wait_s", "headers", "reason"),
    [(120, {"x-request-timeout": "3"}, "deadline_unreachable"), (3, {}, "wait_too_long")],
)
async def test_a_request_that_would_wait_in_vain_is_rejected_at_once(
    start_router: StartRouter, max_wait_s: float, headers: dict[str, str | bytes], reason: str
) -> None:
    """An answer is expected to take 10 s as long as none was seen."""
    router = await start_router(Steered, capacity=ONE_AT_A_TIME, max_wait_s=max_wait_s)
    running, connection = await router.begin()
    response = await router.chat(headers)
    assert error_of(response, 429)["code"] == response.headers["x-refused"] == reason
    assert 1 <= int(response.headers["retry-after"]) <= 10
    connection.proceed()
    await running


@pytest.mark.parametrize("header", ["x-request-timeout", "x-stainless-read-timeout"])
async def test_a_deadline_that_no_replica_can_meet_is_a_400(
    start_router: StartRouter, header: str
) -> None:
    router = await start_router(Engine)
    long = [{"role": "user", "content": "word " * 20_000}]
    response = await router.chat({header: "0.01"}, messages=long)
    error = error_of(response, 400)
    assert error["code"] == response.headers["x-refused"] == "deadline_too_short"
    assert "retry-after" not in response.headers
    assert not router.engines[0].received


@pytest.mark.parametrize(
    ("header", "value"), [("x-priority", "10"), ("x-priority", "high"), ("x-request-timeout", "0")]
)
async def test_headers_that_cannot_be_read_are_a_400(
    start_router: StartRouter, header: str, value: str
) -> None:
    router = await start_router(Engine)
    error = error_of(await router.chat({header: value}), 400)
    assert (error["code"], error["param"]) == ("invalid_header", header)


async def test_a_client_that_leaves_the_queue_frees_its_reservation(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, capacity=ONE_AT_A_TIME, max_waiting=1, max_wait_s=600)
    running, connection = await router.begin(user="running")
    async with httpx.AsyncClient(base_url=router.url) as leaving:
        request = asyncio.create_task(
            leaving.post("/v1/chat/completions", json={"model": MODEL, "user": "leaves"})
        )
        await wait_in_queue(router, 1)
        request.cancel()
        await asyncio.wait([request])
    await wait_in_queue(router, 0)
    follows = asyncio.create_task(router.chat(user="follows"))
    await wait_in_queue(router, 1)
    connection.proceed()
    (await router.asked()).proceed()
    assert (await running).status_code == (await follows).status_code == 200
    assert not any(b"leaves" in body for body in texts_of(router))


async def test_a_request_whose_only_replica_failed_waits_for_a_new_one(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, Engine)
    first, second = router.infos
    router.directory.update(MODEL, [first])
    answer, connection = await router.begin()
    router.directory.update(MODEL, [])
    connection.reset()
    await wait_in_queue(router, 1)
    router.directory.update(MODEL, [second])
    response = await answer
    assert (response.status_code, response.headers["x-replica"]) == (200, "replica-1")
    assert response.headers["x-retries"] == "1"
