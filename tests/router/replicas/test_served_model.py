import asyncio
import contextlib

import pytest

from serving.config import AdmissionConfig, RouterConfig
from serving.dispatch import Outcome, Request, Reservation
from serving.placement import Capacity
from serving.router.http.errors import ApiError
from serving.router.replicas.directory import Directory
from serving.router.replicas.health import HealthCheck
from serving.router.replicas.model import Model
from serving.router.replicas.replica import ReplicaInfo
from serving.router.replicas.served_model import ServedModel
from tests.dispatch.setting import work
from tests.support.engines import Engine, Steered
from tests.support.live_router import MODEL, StartRouter
from tests.support.waiting import eventually

CONFIG = RouterConfig()
CHECK = HealthCheck("token", backoff_s=5)
INFOS = [ReplicaInfo(f"replica-{i}", "10.0.0.1", 9000 + i, 8192) for i in range(3)]


def model_with(replicas: int) -> ServedModel:
    served = ServedModel(Model("m", ("alias",)), CONFIG, CHECK)
    served.update(INFOS[:replicas])
    return served


def test_a_model_is_found_by_id_and_alias_only() -> None:
    directory = Directory([Model("org/one", ("one", "uno")), Model("two")], CONFIG, CHECK)
    one, two = directory.models.values()
    assert [directory.find(name) for name in ("org/one", "one", "uno", "two")] == [one] * 3 + [two]
    assert directory.find("three") is None
    assert directory.find("") is None


def test_the_context_length_is_known_once_a_replica_is_up() -> None:
    assert model_with(0).max_model_len is None
    assert model_with(1).max_model_len == 8192


def test_replicas_that_stay_are_the_same_and_keep_their_state() -> None:
    served = model_with(2)
    gone, stays = served.replicas
    stays.health.ejected = True
    served.update([INFOS[2], INFOS[1]])
    new, still = served.replicas
    assert still is stays
    assert new is not gone
    assert new.info == INFOS[2]
    assert served.dispatcher.fleet.loads == {"replica-1": stays.load, "replica-2": new.load}


def test_only_healthy_replicas_are_given_work() -> None:
    served = model_with(2)
    first, second = served.replicas
    first.health.ejected = True
    served.refresh()
    assert served.dispatcher.replicas == [second.load]


def test_an_update_changes_its_own_model_only() -> None:
    directory = Directory([Model("one"), Model("other")], CONFIG, CHECK)
    directory.update("one", INFOS[:1])
    directory.update("other", INFOS[1:2])
    directory.update("one", [])
    one, other = directory.models.values()
    assert (one.replicas, [r.info for r in other.replicas]) == ([], INFOS[1:2])


async def test_an_update_keeps_the_connections_of_those_that_stay_and_closes_the_others(
    start_router: StartRouter,
) -> None:
    router = await start_router(Steered, Steered)
    goes, stays = router.engines
    answers = [asyncio.create_task(router.chat()) for _ in range(2)]
    for connection in [await router.asked(0), await router.asked(1)]:
        connection.proceed()
    await asyncio.gather(*answers)
    assert len(goes.connections) == len(stays.connections) == 1

    router.directory.update(MODEL, router.infos[1:])
    await eventually(lambda: not goes.connections)
    answer = asyncio.create_task(router.chat())
    (await router.asked(1)).proceed()
    assert (await answer).headers["x-replica"] == "replica-1"
    assert stays.accepted == 1


async def test_a_replica_that_comes_back_takes_requests_again(start_router: StartRouter) -> None:
    router = await start_router(Engine)
    assert (await router.chat()).status_code == 200
    router.directory.update(MODEL, [])
    answer = asyncio.create_task(router.chat())
    await eventually(lambda: router.directory.models[MODEL].dispatcher.waiting == 1)
    router.directory.update(MODEL, router.infos)
    assert (await answer).status_code == 200


class Clients:
    """Clients of one replica that runs two requests, and a clock set by hand."""

    def __init__(self, replicas: int = 1, max_waiting: int = 10) -> None:
        self.now_s = 0.0
        admission = AdmissionConfig(max_waiting=max_waiting, max_wait_s=30)
        config = RouterConfig(admission=admission, startup_s=60)
        self.served = ServedModel(Model("m"), config, CHECK, lambda: self.now_s)
        self.info = ReplicaInfo("replica", "10.0.0.1", 9000, 8192, Capacity(1000, 2))
        self.served.update([self.info] * replicas)

    async def enter(self, priority: int = 5, timeout_s: float | None = None) -> Reservation:
        request = Request(work(100), priority, timeout_s)
        reservation, replica = await self.served.admit(request)
        assert replica.info is self.info
        return reservation

    async def come(self, priority: int = 5) -> "asyncio.Task[Reservation]":
        task = asyncio.create_task(self.enter(priority))
        await settled()
        return task

    def leave(self, reservation: Reservation) -> None:
        self.served.release(reservation, Outcome.SERVED)

    @property
    def waiting(self) -> int:
        return self.served.dispatcher.waiting


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_client_that_leaves_as_its_turn_comes_keeps_nothing(leaves_first: bool) -> None:
    clients = Clients()
    first, _ = await clients.enter(), await clients.enter()
    waiting = await clients.come()
    if leaves_first:
        waiting.cancel()
        clients.leave(first)
    else:
        clients.leave(first)
        waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    load = clients.served.replicas[0].load
    assert (load.requests, load.kv_tokens) == (1, 100)
    await asyncio.wait_for(clients.enter(), 1)


async def test_a_request_that_waited_in_vain_is_rejected() -> None:
    clients = Clients(replicas=0)
    waiting = await clients.come()
    clients.now_s = 200
    clients.served.update([])
    with pytest.raises(ApiError) as rejected:
        await waiting
    assert rejected.value.status == 503
    assert clients.waiting == 0


async def test_it_wakes_up_by_itself_for_requests_that_wait_in_vain() -> None:
    clients = Clients()
    for _ in range(2):
        await clients.enter()
    loop = asyncio.get_running_loop()
    clients.served._clock = loop.time
    waiting = await clients.come()
    ahead_s = 29.9
    clients.served._clock = lambda: loop.time() + ahead_s
    clients.served.refresh()
    assert not waiting.done()
    with pytest.raises(ApiError) as rejected:
        await asyncio.wait_for(waiting, timeout=30)
    assert rejected.value.code == "wait_too_long"
