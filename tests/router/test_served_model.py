import asyncio

from serving.config import RouterConfig
from serving.router.directory import Directory
from serving.router.model import Model
from serving.router.replica import ReplicaInfo
from serving.router.replica_health import HealthCheck
from serving.router.served_model import ServedModel
from tests.support.engines import Engine, Steered
from tests.support.live_router import MODEL, StartRouter
from tests.support.waiting import eventually

CONFIG = RouterConfig()
CHECK = HealthCheck("token", hold_off_s=5)
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
    stays.health.left_out = True
    served.update([INFOS[2], INFOS[1]])
    new, still = served.replicas
    assert still is stays
    assert new is not gone
    assert new.info == INFOS[2]
    assert served.fleet.loads == {"replica-1": stays.load, "replica-2": new.load}


def test_only_healthy_replicas_are_given_work() -> None:
    served = model_with(2)
    first, second = served.replicas
    first.health.left_out = True
    served.refresh()
    assert served.admission.replicas == [second]


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
    await eventually(lambda: router.directory.models[MODEL].entrance.waiting == 1)
    router.directory.update(MODEL, router.infos)
    assert (await answer).status_code == 200
