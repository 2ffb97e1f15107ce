"""An engine's options for Ray Serve."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from serving import catalogue
from serving.engine import deployment
from serving.engine.start_log import StartError

MISTRAL_SMALL = catalogue.load("mistral-small-3.2-24b-instruct-2506")
TINY = catalogue.load("tiny-mistral-small-3.2")


def test_a_tensor_parallel_group_is_one_bundle() -> None:
    options = deployment.options(MISTRAL_SMALL, cpus=4, drain_timeout_s=600)
    assert options["placement_group_bundles"] == [{"CPU": 4, "GPU": 2}]
    assert options["ray_actor_options"]["num_gpus"] == 2


def test_pipeline_stages_are_bundles_on_different_nodes() -> None:
    entry = MISTRAL_SMALL.model_copy(update={"pipeline_parallel_size": 3})
    options = deployment.options(entry, cpus=4, drain_timeout_s=600)
    assert options["placement_group_bundles"] == [{"CPU": 4, "GPU": 2}] * 3
    assert options["placement_group_strategy"] == "STRICT_SPREAD"


def test_a_cpu_engine_is_one_bundle_of_cpus() -> None:
    options = deployment.options(TINY, cpus=0.5, drain_timeout_s=60)
    assert options["placement_group_bundles"] == [{"CPU": 0.5}]
    assert options["ray_actor_options"]["num_gpus"] == 0


def test_vllms_environment_is_ours_and_the_entrys() -> None:
    entry = TINY.model_copy(update={"env": {"A": "b", "VLLM_MAX_STOP_STRINGS": "9"}})
    options = deployment.options(entry, cpus=1, drain_timeout_s=60)
    env = options["ray_actor_options"]["runtime_env"]["env_vars"]
    assert env == {"VLLM_NO_USAGE_STATS": "1", "VLLM_MAX_STOP_STRINGS": "9", "A": "b"}


def test_serve_waits_longer_than_the_drain() -> None:
    options = deployment.options(TINY, cpus=1, drain_timeout_s=600)
    assert options["graceful_shutdown_timeout_s"] > 600


@pytest.mark.parametrize(
    ("cause", "says"),
    [(StartError("OutOfMemoryError: …"), "OutOfMemoryError"), (None, "a pipeline stage of this")],
)
async def test_a_pipeline_stage_that_ended_is_told_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, cause: Exception | None, says: str
) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended.set_result(None) if cause is None else ended.set_exception(cause)
    monkeypatch.setattr("ray.wait", lambda stages, timeout: (stages, []))
    with pytest.raises(RuntimeError, match=says):
        await deployment.Engine._raise_stage_error(cast(Any, SimpleNamespace(_stages=[ended])))


def stopping(
    drain: Callable[[float], Awaitable[int]],
    check_health: Callable[[], Awaitable[None]],
) -> Any:
    """Returns an engine replica with only the parts that stopping needs."""

    async def close() -> None:
        pass

    engine: Any = SimpleNamespace(
        _access=SimpleNamespace(drain=drain),
        _following=asyncio.get_running_loop().create_future(),
        _server=SimpleNamespace(close=close, unclaimed_usage=0),
        _drain_timeout_s=60.0,
        check_health=check_health,
    )
    engine._until_its_usage_is_known = partial(deployment.Engine._until_its_usage_is_known, engine)
    engine._until_it_is_unhealthy = partial(deployment.Engine._until_it_is_unhealthy, engine)
    return engine


@pytest.mark.parametrize(("left", "says"), [(0, []), (2, ["2 answers are cut off: "])])
async def test_answers_that_a_stopping_replica_cuts_off_are_logged(
    caplog: pytest.LogCaptureFixture, left: int, says: list[str]
) -> None:
    async def drain(timeout_s: float) -> int:
        return left

    async def check_health() -> None:
        pass

    engine = stopping(drain, check_health)
    await deployment.Engine.__del__(engine)
    assert [message[:23] for message in caplog.messages] == says
    assert engine._following.cancelled()


def test_answers_end_before_the_node_goes() -> None:
    """Early enough for the routers to learn what the last requests used."""
    ends: list[float] = []
    engine: Any = SimpleNamespace(_access=SimpleNamespace(end_within=ends.append))
    deployment.Engine._end_before_the_node(engine, 30)
    assert ends == [27]


@pytest.mark.parametrize("is_fetched", [True, False])
async def test_a_stopping_replica_waits_for_its_usage_to_be_fetched_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_fetched: bool
) -> None:
    async def drain(timeout_s: float) -> int:
        return 0

    async def check_health() -> None:
        pass

    engine = stopping(drain, check_health)
    engine._server.unclaimed_usage = 1
    monkeypatch.setattr(deployment, "_USAGE_PAUSE_S", 0.001)
    async with asyncio.timeout(5):
        ending = asyncio.create_task(deployment.Engine.__del__(engine))
        if is_fetched:
            await asyncio.sleep(0)
            assert not ending.done()
            engine._server.unclaimed_usage = 0
        await ending
    assert ("not fetched" in caplog.text) is not is_fetched


async def test_a_stopping_replica_does_not_wait_for_an_engine_that_hangs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment, "_HEALTH_CHECK_TIMEOUT_S", 0.01)

    async def never(*_: float) -> Any:
        await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await deployment.Engine.__del__(stopping(never, never))
    assert "does not answer" in caplog.text
