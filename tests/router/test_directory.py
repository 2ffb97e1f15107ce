import asyncio

from serving.router.directory import Directory, Model, ReplicaInfo
from serving.router.replica_health import HealthCheck
from tests.eventually import eventually
from tests.router.engines import Engine, Steered
from tests.router.live import MODEL, StartRouter

CHECK = HealthCheck("token", hold_off_s=5)
INFOS = [ReplicaInfo(f"replica-{i}", "10.0.0.1", 9000 + i, 8192) for i in range(3)]


def model_with(replicas: int) -> Model:
    model = Model("m", ("alias",))
    Directory([model], 1, CHECK).update("m", INFOS[:replicas])
    return model


def test_a_replica_describes_itself_in_its_metadata() -> None:
    metadata = {"host": "10.0.0.1", "port": 9000, "max_model_len": 8192}
    assert ReplicaInfo.from_metadata("replica-0", metadata) == INFOS[0]


def test_a_model_is_found_by_id_and_alias_only() -> None:
    one, other = Model("org/one", ("one", "uno")), Model("two")
    directory = Directory([one, other], 1, CHECK)
    assert [directory.find(name) for name in ("org/one", "one", "uno", "two")] == [one] * 3 + [
        other
    ]
    assert directory.find("three") is None
    assert directory.find("") is None


def test_the_context_length_is_known_once_a_replica_is_up() -> None:
    assert model_with(0).max_model_len is None
    assert model_with(1).max_model_len == 8192


def test_the_least_loaded_replica_is_placed_on() -> None:
    model = model_with(3)
    model.replicas[0].load.book(10)
    model.replicas[1].load.book(5)
    model.replicas[2].load.book(20)
    assert model.place([]) is model.replicas[1]


def test_a_replica_that_was_tried_is_not_tried_again() -> None:
    model = model_with(2)
    first, second = model.replicas
    assert model.place([]) is first
    assert model.place([first]) is second
    assert model.place([first, second]) is None


def test_no_replica_is_none() -> None:
    assert model_with(0).place([]) is None


def test_a_replica_left_out_is_not_placed_on() -> None:
    model = model_with(2)
    failed, busy = model.replicas
    failed.health.left_out = True
    busy.load.book(1000)
    assert model.place([]) is busy


def test_replicas_left_out_are_used_when_there_is_no_other() -> None:
    model = model_with(2)
    first, second = model.replicas
    first.health.left_out = second.health.left_out = True
    assert model.place([]) is first
    assert model.place([first]) is second


def test_replicas_that_stay_are_the_same_and_keep_their_load() -> None:
    model = model_with(2)
    directory = Directory([model], 1, CHECK)
    gone, stays = model.replicas
    stays.load.book(7)
    stays.health.left_out = True
    directory.update("m", [INFOS[2], INFOS[1]])
    new, still = model.replicas
    assert still is stays
    assert (still.load.tokens, still.health.left_out) == (7, True)
    assert new is not gone
    assert (new.info, new.load.tokens) == (INFOS[2], 0)


def test_an_update_changes_its_own_model_only() -> None:
    one, other = Model("one"), Model("other")
    directory = Directory([one, other], 1, CHECK)
    directory.update("one", INFOS[:1])
    directory.update("other", INFOS[1:2])
    directory.update("one", [])
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
    for infos, status in (([], 503), (router.infos, 200)):
        router.directory.update(MODEL, infos)
        assert (await router.chat()).status_code == status
