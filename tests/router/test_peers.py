"""Routers that tell each other what they book, on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from serving.admission import Capacity, Demand
from serving.config import AdmissionConfig, RouterConfig
from serving.placement import Work, prefix_of
from serving.placement.prompt_parts import Kind
from serving.router.directory import Directory
from serving.router.model import Model
from serving.router.peer_protocol import Hello, frame
from serving.router.peers import PeerInfo, Peers
from serving.router.replica import ReplicaInfo
from serving.router.replica_health import HealthCheck
from serving.router.served_model import Place, ServedModel
from tests.support.waiting import eventually

HOST = "127.0.0.1"
CONFIG = RouterConfig(admission=AdmissionConfig(max_wait_s=30), startup_s=1)
REPLICAS = [
    ReplicaInfo(f"replica-{i}", "10.0.0.1", 9000 + i, 8192, Capacity(10_000, 4)) for i in range(2)
]
WORK = Work(prefix_of([(Kind.USER, "x" * 8000)]), 2000, 100)
DEMAND = Demand(2100)


class Router:
    """What of a router its peers see."""

    def __init__(self, router_id: str, token: str = "token") -> None:
        directory = Directory([Model("m")], CONFIG, HealthCheck("token", 1))
        self.served: ServedModel = directory.models["m"]
        self.served.update(REPLICAS)
        self.peers = Peers(directory, token, router_id)
        self.router_id = router_id
        self.port = 0

    @property
    def info(self) -> PeerInfo:
        return PeerInfo(self.router_id, HOST, self.port)

    async def admit(self) -> Place:
        return await self.served.admit(WORK, DEMAND)

    def loads(self) -> list[tuple[int, int]]:
        return [(r.load.requests, r.load.kv_tokens) for r in self.served.replicas]


@pytest.fixture
async def routers() -> AsyncIterator[list[Router]]:
    """Three that hear each other."""
    routers = [Router(f"router-{i}") for i in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for router in routers:
            router.port = await router.peers.listen(HOST)
            stack.push_async_callback(router.peers.close)
        for router in routers:
            router.peers.update([other.info for other in routers])
        await eventually(lambda: [router.peers.told for router in routers] == [2, 2, 2])
        yield routers


async def test_each_knows_what_the_others_have_booked(routers: list[Router]) -> None:
    one, *others = routers
    place = await one.admit()
    booked = one.loads()
    assert sorted(requests for requests, _ in booked) == [0, 1]
    await eventually(lambda: all(other.loads() == booked for other in others))
    place.first_token()
    place.leave(served=True, output_tokens=50)
    nothing = [(0, 0), (0, 0)]
    await eventually(lambda: all(router.loads() == nothing for router in routers))


async def test_each_knows_what_the_others_replicas_have_cached(routers: list[Router]) -> None:
    one, other, _ = routers
    first = await one.admit()
    first.leave(served=True, output_tokens=10)
    served = other.served
    await eventually(lambda: WORK.prompt_tokens - served.uncached_tokens(WORK) > 1900)
    second = await other.admit()
    assert second.replica.info == first.replica.info
    assert second.expected_cached_tokens > 1900
    second.leave(served=True)


async def test_a_router_that_comes_late_hears_what_is_unfinished(routers: list[Router]) -> None:
    one = routers[0]
    place = await one.admit()
    late = Router("late")
    late.peers.update([router.info for router in routers])
    try:
        late.port = await late.peers.listen(HOST)
        await eventually(lambda: late.loads() == one.loads())
    finally:
        await late.peers.close()
        place.leave(served=True)


async def test_the_requests_of_a_router_that_is_gone_are_forgotten(routers: list[Router]) -> None:
    one, other, _ = routers
    await one.admit()
    await eventually(lambda: other.loads() == one.loads())
    await one.peers.close()
    await eventually(lambda: other.loads() == [(0, 0), (0, 0)])


async def test_room_that_one_gives_back_is_taken_by_who_waits_at_another(
    routers: list[Router],
) -> None:
    one, other, _ = routers
    places = [await one.admit() for _ in range(8)]
    await eventually(lambda: other.loads() == one.loads())
    waiting = asyncio.create_task(other.admit())
    await eventually(lambda: other.served.entrance.waiting == 1)
    places[0].leave(served=True)
    async with asyncio.timeout(5):
        (await waiting).leave(served=True)
    for place in places[1:]:
        place.leave(served=True)


async def test_without_the_token_nothing_is_told(routers: list[Router]) -> None:
    for hello in (frame(Hello("another")), b"GET / HTTP/1.1\r\n\r\n", b""):
        reader, writer = await asyncio.open_connection(HOST, routers[0].port)
        writer.write(hello)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_router_alone_gathers_nothing() -> None:
    alone = Router("alone")
    alone.port = await alone.peers.listen(HOST)
    alone.peers.update([alone.info])
    (await alone.admit()).leave(served=True)
    assert alone.served.on_event is None
    assert alone.served.allotment is None
    await alone.peers.close()
