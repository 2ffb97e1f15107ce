"""What a router reports of a model, for the number of its replicas."""

import asyncio
from functools import partial

import pytest

from serving.admission import Capacity, Demand
from serving.config import AdmissionConfig, RouterConfig
from serving.placement import Ended, Rates, Work, prefix_of
from serving.placement.prompt_parts import Kind
from serving.router.errors import ApiError
from serving.router.model import Model
from serving.router.replica import ReplicaInfo
from serving.router.replica_health import HealthCheck
from serving.router.served_model import Place, ServedModel
from serving.scaling.report import Report

INFO = ReplicaInfo("replica", "10.0.0.1", 9000, 8192, Capacity(10_000, 4))
DEMAND = Demand(2100)


def work(text: str, prompt_tokens: int = 2000) -> Work:
    return Work(prefix_of([(Kind.USER, text * 8000)]), prompt_tokens, 100)


def model(replicas: int = 1, max_waiting: int = 10) -> ServedModel:
    config = RouterConfig(admission=AdmissionConfig(max_waiting=max_waiting), startup_s=1)
    first_rates = partial(Rates, prefill_tokens_per_s=5000)
    served = ServedModel(Model("m", first_rates=first_rates), config, HealthCheck("token", 1))
    served.update([INFO] * replicas)
    return served


def waiting(report: Report) -> tuple[float, float, float]:
    return report.waiting_requests, report.waiting_kv_tokens, report.waiting_prefill_tokens


async def started(served: ServedModel, work: Work, demand: Demand = DEMAND) -> asyncio.Task[Place]:
    task = asyncio.create_task(served.admit(work, demand))
    await asyncio.sleep(0)
    return task


async def test_what_is_cached_is_no_work() -> None:
    served = model()
    await served.admit(work("a"), DEMAND)
    assert served.report().offered_prefill_tokens == 2000
    await served.admit(work("a"), DEMAND)
    assert served.report().offered_prefill_tokens < 2100
    await served.admit(work("b"), DEMAND)
    assert served.report().offered_prefill_tokens > 3900


async def test_what_runs_is_in_the_ledger() -> None:
    served = model()
    place = await served.admit(work("a"), DEMAND)
    report = served.report()
    assert (report.running_requests, report.running_kv_tokens) == (1, 2100)
    assert waiting(report) == (0, 0, 0)
    place.leave(served=True)
    assert served.report().running_requests == 0


async def test_who_waits_is_work_until_it_is_placed_or_leaves() -> None:
    served = model(replicas=0)
    placed, leaves = await started(served, work("a")), await started(served, work("b"))
    assert waiting(served.report()) == (2, 4200, 4000)
    assert served.report().offered_prefill_tokens == 4000
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    assert waiting(served.report()) == (1, 2100, 2000)
    served.update([INFO])
    await placed
    assert waiting(served.report()) == (0, 0, 0)
    assert served.report().offered_prefill_tokens == 4000


async def test_a_refused_one_is_work_and_no_more_when_it_is_back() -> None:
    served = model(replicas=0, max_waiting=0)
    demand = Demand(2100, key=1)
    for _ in range(2):
        with pytest.raises(ApiError):
            await served.admit(work("a"), demand)
        report = served.report()
        assert report.offered_prefill_tokens == 2000
        assert report.waiting_requests == 1


async def test_a_replica_that_is_gone_drains_until_its_requests_have_ended() -> None:
    served = model()
    place = await served.admit(work("a"), DEMAND)
    served.update([])
    assert served.report().draining == 1
    assert served.report().running_requests == 0
    served.apply(Ended(place._placed.request))
    assert served.report().draining == 0


async def test_rates_are_guessed_until_learnt_and_outlive_the_replicas() -> None:
    served = model()
    assert served.report().prefill_tokens_per_s == 5000
    served.replicas[0].load.rates.observe_first_token(2000, 1000)
    learnt = served.report().prefill_tokens_per_s
    assert learnt < 5000
    served.update([])
    assert served.report().prefill_tokens_per_s == learnt


async def test_a_replica_is_as_it_says() -> None:
    report = model().report()
    assert (report.kv_cache_tokens, report.max_num_seqs) == (10_000, 4)
    assert report.stay_s > 0
