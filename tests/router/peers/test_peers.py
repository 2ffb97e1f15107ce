"""Routers that publish their bookings to each other, on loopback."""

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from serving.config import AdmissionConfig, RouterConfig
from serving.dispatch import Outcome, Permit, RateLimiter, Request, Reservation, TenantLimits
from serving.placement import Capacity, Work, prefix_of
from serving.placement.prompt_parts import Kind
from serving.router.peers.peers import PeerInfo, Peers
from serving.router.peers.protocol import Hello, frame
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.served_model import ServedModel
from tests.support.waiting import eventually

HOST = "127.0.0.1"
CONFIG = RouterConfig(admission=AdmissionConfig(max_wait_s=30), startup_s=1)
REPLICAS = [
    ReplicaInfo(f"replica-{i}", "10.0.0.1", 9000 + i, 8192, Capacity(10_000, 4)) for i in range(2)
]
WORK = Work(prefix_of([(Kind.USER, "x" * 8000)]), 2000, 100)


class Router:
    """The part of a router that its peers see."""

    def __init__(self, router_id: str, token: str = "token") -> None:
        directory = Directory([Model("m")], CONFIG, HealthCheck("token", 1))
        self.served: ServedModel = directory.models["m"]
        self.served.update(REPLICAS)
        self.limiter = RateLimiter()
        self.peers = Peers(directory, self.limiter, token, router_id)
        self.router_id = router_id
        self.port = 0

    @property
    def info(self) -> PeerInfo:
        return PeerInfo(self.router_id, HOST, self.port)

    async def admit(self) -> Reservation:
        reservation, _ = await self.served.admit(Request(WORK))
        return reservation

    def release(self, reservation: Reservation, output_tokens: int = 0) -> None:
        self.served.release(reservation, Outcome.SERVED, output_tokens)

    def loads(self) -> list[tuple[int, int]]:
        return [(r.load.requests, r.load.kv_tokens) for r in self.served.replicas]


@pytest.fixture
async def routers() -> AsyncIterator[list[Router]]:
    """Yields three routers that publish to each other."""
    routers = [Router(f"router-{i}") for i in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        for router in routers:
            router.port = await router.peers.listen(HOST)
            stack.push_async_callback(router.peers.close)
        for router in routers:
            router.peers.update([other.info for other in routers])
        await eventually(lambda: [router.peers.subscribers for router in routers] == [2, 2, 2])
        yield routers


async def test_each_knows_what_the_others_have_booked(routers: list[Router]) -> None:
    one, *others = routers
    reservation = await one.admit()
    booked = one.loads()
    assert sorted(requests for requests, _ in booked) == [0, 1]
    await eventually(lambda: all(other.loads() == booked for other in others))
    one.served.first_token(reservation)
    one.release(reservation, output_tokens=50)
    nothing = [(0, 0), (0, 0)]
    await eventually(lambda: all(router.loads() == nothing for router in routers))


async def test_each_knows_what_the_others_replicas_have_cached(routers: list[Router]) -> None:
    one, other, _ = routers
    first = await one.admit()
    one.release(first, output_tokens=10)
    fleet = other.served.dispatcher.fleet
    await eventually(lambda: fleet.most_cached_tokens(WORK.prefix) > 1900)
    second = await other.admit()
    assert second.replica_id == first.replica_id
    assert second.cached_tokens > 1900
    other.release(second)


@contextlib.asynccontextmanager
async def joined(routers: list[Router]) -> AsyncIterator[Router]:
    """Yields one more router, which has these as its peers."""
    new = Router("new")
    new.peers.update([router.info for router in routers])
    try:
        new.port = await new.peers.listen(HOST)
        yield new
    finally:
        await new.peers.close()


async def test_a_late_router_receives_what_is_unfinished(routers: list[Router]) -> None:
    one = routers[0]
    reservation = await one.admit()
    async with joined(routers) as late:
        await eventually(lambda: late.loads() == one.loads())
    one.release(reservation)


async def test_a_new_router_learns_the_loads_and_prefixes_before_it_takes_requests(
    routers: list[Router],
) -> None:
    one, other, _ = routers
    ended = await one.admit()
    one.release(ended, output_tokens=10)
    unfinished = await other.admit()
    await eventually(lambda: one.loads() == other.loads())
    async with joined(routers) as new:
        async with asyncio.timeout(5):
            await new.peers.learned()
        assert new.loads() == one.loads()
        assert new.served.dispatcher.fleet.most_cached_tokens(WORK.prefix) > 1900
    other.release(unfinished)


async def test_a_new_router_learns_what_tenants_have_used(routers: list[Router]) -> None:
    limits = TenantLimits(requests_per_minute=3, concurrent_requests=3)
    permits = []
    for router in routers:
        permit = router.limiter.admit("a", limits, 10, time.monotonic())
        assert isinstance(permit, Permit)
        permits.append(permit)
    everyone = [*routers]

    def refused(router: Router) -> str | None:
        exceeded = router.limiter.check("a", limits, time.monotonic())
        return None if exceeded is None else exceeded.limit

    await eventually(lambda: [refused(one) for one in everyone] == ["concurrent_requests"] * 3)
    async with joined(routers) as new:
        await eventually(lambda: refused(new) == "concurrent_requests")
        routers[0].limiter.end(permits[0], 10, time.monotonic())
        await eventually(lambda: refused(new) == "requests_per_minute")


async def test_only_one_router_tells_a_new_one_what_is_cached(
    routers: list[Router], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    send = Peers._send_cached

    async def sent(peers: Peers, writer: asyncio.StreamWriter) -> None:
        asked.append(peers)
        await send(peers, writer)

    monkeypatch.setattr(Peers, "_send_cached", sent)
    async with joined(routers) as new:
        async with asyncio.timeout(5):
            await new.peers.learned()
    assert len(asked) == 1


async def test_a_new_router_does_not_wait_for_one_that_is_gone(routers: list[Router]) -> None:
    gone = PeerInfo("gone", HOST, 1)
    new = Router("new")
    new.port = await new.peers.listen(HOST)
    new.peers.update([routers[0].info, gone])
    learned = asyncio.create_task(new.peers.learned())
    try:
        await eventually(lambda: routers[0].peers.subscribers == 3)
        assert not learned.done()
        new.peers.update([routers[0].info])
        async with asyncio.timeout(5):
            await learned
    finally:
        await new.peers.close()


async def test_the_requests_of_a_router_that_is_gone_are_forgotten(routers: list[Router]) -> None:
    one, other, _ = routers
    await one.admit()
    await eventually(lambda: other.loads() == one.loads())
    await one.peers.close()
    await eventually(lambda: other.loads() == [(0, 0), (0, 0)])


async def test_headroom_released_at_one_router_is_taken_by_a_request_waiting_at_another(
    routers: list[Router],
) -> None:
    one, other, _ = routers
    reservations = [await one.admit() for _ in range(8)]
    await eventually(lambda: other.loads() == one.loads())
    waiting = asyncio.create_task(other.admit())
    await eventually(lambda: other.served.dispatcher.waiting == 1)
    one.release(reservations[0])
    async with asyncio.timeout(5):
        other.release(await waiting)
    for reservation in reservations[1:]:
        one.release(reservation)


async def test_tenants_share_by_weight_though_each_comes_to_another_router(
    routers: list[Router],
) -> None:
    """Both always have requests that wait. The replicas end the oldest request, one at a time."""
    running: asyncio.Queue[tuple[Router, Reservation]] = asyncio.Queue()
    placed: collections.Counter[str] = collections.Counter()

    async def flood(router: Router, tenant: str, weight: float) -> None:
        while True:
            asked = Request(WORK, tenant=tenant, weight=weight)
            reservation, _ = await router.served.admit(asked)
            placed[tenant] += 1
            running.put_nowait((router, reservation))

    floods = [
        asyncio.create_task(flood(router, tenant, weight))
        for router, tenant, weight in zip(routers, ("three", "one"), (3, 1), strict=False)
        for _ in range(12)
    ]
    shares = [router.served.dispatcher.fair_share for router in routers[:2]]
    await eventually(lambda: all(share.last_rank() is not None for share in shares))
    before = placed.copy()
    async with asyncio.timeout(60):
        while placed.total() < before.total() + 200:
            router, reservation = await running.get()
            router.release(reservation, output_tokens=100)
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    while not running.empty():
        router, reservation = running.get_nowait()
        router.release(reservation)
    late = placed - before
    assert late["three"] / late["one"] == pytest.approx(3, rel=0.15)


async def test_without_the_token_nothing_is_published(routers: list[Router]) -> None:
    for hello in (frame(Hello("another")), b"GET / HTTP/1.1\r\n\r\n", b""):
        reader, writer = await asyncio.open_connection(HOST, routers[0].port)
        writer.write(hello)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_a_quota_is_taken_while_there_are_others(routers: list[Router]) -> None:
    dispatcher = routers[0].served.dispatcher
    await eventually(lambda: dispatcher.sync.quota is not None)
    assert (dispatcher.sync.quota or 0) == pytest.approx(2 * 1.25 / 3)


async def test_a_router_alone_publishes_nothing() -> None:
    alone = Router("alone")
    alone.port = await alone.peers.listen(HOST)
    alone.peers.update([alone.info])
    alone.release(await alone.admit())
    assert alone.served.dispatcher.sync.publish is None
    assert alone.served.dispatcher.sync.quota is None
    await alone.peers.close()
