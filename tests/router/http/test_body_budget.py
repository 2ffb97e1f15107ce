"""The memory of the bodies that a router reads and holds."""

import asyncio
import gzip
from typing import Any

import httpx
import pytest

from serving.router.http.body_budget import BodyBudget
from serving.router.http.errors import ApiError
from tests.router.test_app import error_of
from tests.support.engines import Engine, Steered
from tests.support.live_router import CHAT, MODEL, LiveRouter, StartRouter
from tests.support.waiting import eventually

BUDGET_BYTES = 300_000
LARGE: Any = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 150_000}]}


@pytest.fixture
async def router(start_router: StartRouter) -> LiveRouter:
    return await start_router(Engine, max_bodies_mib=BUDGET_BYTES / 1024**2)


def test_what_is_taken_is_given_back_once() -> None:
    budget = BodyBudget(100)
    one, other = budget.hold(), budget.hold()
    one.take(60)
    with pytest.raises(ApiError):
        other.take(41)
    other.take(40)
    one.release()
    one.release()
    assert budget.left_bytes == 60
    other.release()
    assert budget.left_bytes == 100


async def trickling(router: LiveRouter, sent_bytes: int) -> asyncio.StreamWriter:
    """Returns a client that has sent a part of a large body."""
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(router.url).port)
    writer.write(b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-length: 190000\r\n\r\n" % CHAT.encode())
    writer.write(b"x" * sent_bytes)
    await writer.drain()
    return writer


async def test_a_body_without_room_is_refused_and_may_come_back(router: LiveRouter) -> None:
    budget = router.app._relay._bodies
    writers = [await trickling(router, 90_000) for _ in range(3)]
    await eventually(lambda: budget.left_bytes == BUDGET_BYTES - 270_000)
    refused = await router.http.post(CHAT, json=LARGE)
    assert error_of(refused, 503)["code"] == "too_many_bodies"
    assert refused.headers["retry-after"] == "1"
    assert budget.left_bytes == BUDGET_BYTES - 270_000, "the refused one holds nothing"
    for writer in writers:
        writer.transport.abort()
    await eventually(lambda: budget.left_bytes == BUDGET_BYTES)


async def test_a_body_counts_until_its_answer_ends(start_router: StartRouter) -> None:
    router = await start_router(Steered, max_bodies_mib=BUDGET_BYTES / 1024**2)
    answer = asyncio.create_task(router.http.post(CHAT, json=LARGE))
    connection = await router.asked()
    assert (await router.http.post(CHAT, json=LARGE)).status_code == 503
    connection.proceed()
    assert (await answer).status_code == 200
    again = asyncio.create_task(router.http.post(CHAT, json=LARGE))
    (await router.asked()).proceed()
    assert (await again).status_code == 200


async def test_a_compressed_body_counts_as_what_it_becomes(router: LiveRouter) -> None:
    writers = [await trickling(router, 90_000) for _ in range(2)]
    await eventually(lambda: router.app._relay._bodies.left_bytes == BUDGET_BYTES - 180_000)
    body = gzip.compress(httpx.Request("POST", router.url, json=LARGE).content)
    refused = await router.http.post(CHAT, content=body, headers={"content-encoding": "gzip"})
    assert error_of(refused, 503)["code"] == "too_many_bodies"
    assert not router.engines[0].received
    for writer in writers:
        writer.transport.abort()
