"""The entrance with a clock set by hand; only the order of tasks is asyncio's."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from serving.admission import Admission, Capacity, Demand, Ticket
from serving.router.admission import Entrance
from serving.router.errors import ApiError
from tests.admission.fleet import Load
from tests.support.waiting import eventually

CAPACITY = Capacity(kv_cache_tokens=1000, max_num_seqs=2)
MAX_WAIT_S = 30


@dataclass(eq=False)
class Replica:
    capacity: Capacity = CAPACITY
    load: Load = field(default_factory=Load)


class Clients:
    def __init__(self, replicas: int = 1, max_waiting: int = 10) -> None:
        self.now_s = 0.0
        self.replicas = [Replica() for _ in range(replicas)]
        self.admission: Admission[Replica] = Admission(
            CAPACITY, max_waiting=max_waiting, max_wait_s=MAX_WAIT_S, startup_s=60, now_s=0
        )
        self.entrance = Entrance("small", self.admission, lambda: self.now_s)
        self.entrance.update(self.replicas)

    def take(self, replicas: Sequence[Replica]) -> Replica:
        replicas[0].load.requests += 1
        replicas[0].load.kv_tokens += 100
        return replicas[0]

    def give_back(self, replica: Replica) -> None:
        replica.load.requests -= 1
        replica.load.kv_tokens -= 100

    async def enter(self, priority: int = 5) -> tuple[Ticket, Replica]:
        return await self.entrance.enter(Demand(100, priority), self.take, self.give_back)

    def come(self, priority: int = 5) -> "asyncio.Task[tuple[Ticket, Replica]]":
        return asyncio.create_task(self.enter(priority))

    def leave(self, ticket: Ticket, replica: Replica) -> None:
        self.give_back(replica)
        self.entrance.leave(ticket, True)


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_finds_room_is_let_in_without_a_wait() -> None:
    clients = Clients()
    task = clients.come()
    await asyncio.sleep(0)
    assert task.done()
    assert (await task)[1] is clients.replicas[0]


async def test_who_waits_is_let_in_as_another_leaves() -> None:
    clients = Clients()
    first, _ = await clients.enter(), await clients.enter()
    waiting = [clients.come(priority=1), clients.come(priority=9)]
    await settled()
    assert clients.entrance.waiting == 2
    clients.leave(*first)
    await settled()
    assert [task.done() for task in waiting] == [False, True]
    clients.leave(*await waiting[1])
    await waiting[0]


async def test_a_client_that_leaves_the_line_frees_its_place() -> None:
    clients = Clients(max_waiting=1)
    for _ in range(2):
        await clients.enter()
    waiting = clients.come()
    await settled()
    with pytest.raises(ApiError) as refused:
        await clients.enter()
    assert refused.value.code == "queue_full"
    waiting.cancel()
    await settled()
    assert clients.entrance.waiting == 0
    task = clients.come()
    await settled()
    assert clients.entrance.waiting == 1
    task.cancel()


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_client_that_leaves_as_its_turn_comes_keeps_nothing(leaves_first: bool) -> None:
    clients = Clients()
    first, _ = await clients.enter(), await clients.enter()
    waiting = clients.come()
    await settled()
    if leaves_first:
        waiting.cancel()
        clients.leave(*first)
    else:
        clients.leave(*first)
        waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert clients.replicas[0].load == Load(kv_tokens=100, requests=1)
    assert clients.admission.drain.booked == pytest.approx(0.5)
    await asyncio.wait_for(clients.enter(), 1)


async def test_who_waited_in_vain_is_told_so() -> None:
    clients = Clients(replicas=0)
    clients.entrance._admission._startup_s = 0.0
    waiting = clients.come()
    await settled()
    clients.now_s = 200
    clients.entrance.update([])
    with pytest.raises(ApiError) as refused:
        await waiting
    assert refused.value.status == 503
    assert clients.entrance.waiting == 0


async def test_it_wakes_up_by_itself_for_those_who_wait_in_vain() -> None:
    clients = Clients()
    for _ in range(2):
        await clients.enter()
    clients.entrance._clock = asyncio.get_running_loop().time
    demand = Demand(100, timeout_s=21, service_s=20.99)
    with pytest.raises(ApiError) as refused:
        await asyncio.wait_for(
            clients.entrance.enter(demand, clients.take, clients.give_back), timeout=5
        )
    assert refused.value.code == "deadline_unreachable"


async def test_all_wait_for_the_first_replica() -> None:
    clients = Clients(replicas=0)
    waiting = [clients.come() for _ in range(4)]
    await settled()
    assert clients.entrance.waiting == 4
    clients.entrance.update([Replica(), Replica()])
    await eventually(lambda: all(task.done() for task in waiting))


async def test_a_failure_to_choose_is_the_requests_own() -> None:
    clients = Clients()

    def fail(_: Sequence[Replica]) -> Replica:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await clients.entrance.enter(Demand(100), fail, clients.give_back)
    assert clients.admission.drain.booked == 0
    await clients.enter()
