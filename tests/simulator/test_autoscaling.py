import pytest

from serving.placement import LeastCost
from serving.scaling import Decision, Observed
from serving.simulator.replicas import replica_hours
from serving.simulator.request import Outcome
from serving.simulator.result import Result
from serving.simulator.simulation import Autoscaling, Simulation
from serving.simulator.workload import Arrival, faster
from tests.simulator.engines import mistral_small
from tests.support.loads import shared_prefixes

SPEC = mistral_small(2)


class ByTime:
    """Decides on given numbers of replicas from given times on."""

    def __init__(self, plan: dict[float, int]) -> None:
        self.plan = plan
        self.seen: list[tuple[float, Observed]] = []

    def decide(self, observed: Observed, now_s: float) -> Decision:
        self.seen.append((now_s, observed))
        replicas = [count for from_s, count in self.plan.items() if from_s <= now_s][-1]
        return Decision(replicas, "requests", 0.0, 1.0)


def run(
    plan: dict[float, int],
    arrivals: list[Arrival],
    startup_s: float = 20.0,
    max_wait_s: float = 30.0,
    routers: int = 1,
) -> tuple[Result, ByTime]:
    scaler = ByTime(plan)
    simulation = Simulation(
        SPEC,
        plan[0.0],
        LeastCost,
        max_wait_s=max_wait_s,
        routers=routers,
        lag_s=0.01,
        autoscaling=Autoscaling(scaler, startup_s, period_s=5.0),
    )
    return simulation.run(arrivals), scaler


def test_new_replicas_serve_after_their_start_up_with_empty_caches() -> None:
    result, _ = run({0.0: 1, 10.0: 3}, shared_prefixes(600, 10.0, prefixes=3, users=2))
    assert [replica.up_s for replica in result.replicas] == [0.0, 30.0, 30.0]
    for number in (1, 2):
        own = [outcome for outcome in result.outcomes if outcome.replica == number]
        assert (own[0].first_token_s or 0.0) > 30.0
        assert own[0].cached_tokens == 0
        assert own[-1].cached_tokens > 7000


@pytest.mark.parametrize("routers", [1, 3])
def test_a_replica_to_go_ends_its_answers_and_takes_no_more(routers: int) -> None:
    arrivals = shared_prefixes(600, 10.0, output_tokens=1500)
    result, scaler = run({0.0: 3, 20.0: 1}, arrivals, routers=routers)
    first, second, third = result.replicas
    assert first.gone_s is None
    for replica in (second, third):
        own = [outcome for outcome in result.outcomes if outcome.replica == replica.number]
        assert own and max(outcome.sent_s for outcome in own) <= 20.0
        assert replica.gone_s == max(outcome.end_s or 0.0 for outcome in own) > 30.0
    draining = {now_s: observed.draining for now_s, observed in scaler.seen}
    assert (draining[20.0], draining[25.0]) == (0, 2)


def test_what_still_starts_goes_first() -> None:
    result, _ = run({0.0: 2, 10.0: 4, 15.0: 3}, shared_prefixes(400, 10.0))
    assert [replica.gone_s for replica in result.replicas] == [None, None, None, 15.0]
    assert [replica.up_s for replica in result.replicas] == [0.0, 0.0, 30.0, None]
    hours = replica_hours(result.replicas, result.end_s)
    assert hours * 3600 == pytest.approx(3 * result.end_s - 10 + 5)


def test_requests_wait_for_the_first_replica() -> None:
    result, scaler = run({0.0: 0, 5.0: 1}, faster(shared_prefixes(20, 10.0), 1.0))
    assert all(outcome.end_s is not None for outcome in result.outcomes)
    assert all((outcome.first_token_s or 0.0) > 25.0 for outcome in result.outcomes)
    observed = dict(scaler.seen)[5.0]
    assert (observed.replicas, observed.waiting_requests) == (0, 20)
    assert observed.waiting_prefill_tokens == 20 * 7200
    assert observed.waiting_kv_tokens > observed.waiting_prefill_tokens
    assert observed.offered_prefill_tokens_per_s == pytest.approx(20 * 7200 / 5)


def test_with_none_for_good_all_are_refused_and_the_run_ends() -> None:
    result, _ = run({0.0: 0}, shared_prefixes(20, 10.0), max_wait_s=5.0)
    assert len(result.outcomes) == 20
    assert all(outcome.end_s is None for outcome in result.outcomes)


def test_what_is_seen_is_what_runs() -> None:
    _, scaler = run({0.0: 2}, shared_prefixes(500, 10.0, prefixes=2, users=1, output_tokens=100))
    assert [now_s for now_s, _ in scaler.seen][:3] == [5.0, 10.0, 15.0]
    warm = dict(scaler.seen)[30.0]
    assert warm.up == 2
    assert 5 < warm.running_requests < 25, "10/s, each for 100 steps of 11 ms or more"
    assert 0 < warm.running_kv_tokens < warm.running_requests * 7800
    assert warm.offered_prefill_tokens_per_s < 0.2 * 10 * 7200, "most of it is cached"
    assert warm.startup_s == 20.0


def test_outcomes_can_be_had_one_by_one() -> None:
    seen: list[Outcome] = []
    simulation = Simulation(SPEC, 1, LeastCost, max_wait_s=1.0, on_end=seen.append)
    result = simulation.run(shared_prefixes(500, 30.0))
    assert (len(result.outcomes), len(seen)) == (0, 500)
    assert 0 < sum(outcome.end_s is None for outcome in seen) < 500


def test_progress_is_told_in_the_order_of_time() -> None:
    timed: list[float] = []
    simulation = Simulation(SPEC, 2, LeastCost)
    simulation.run(shared_prefixes(1500, 20.0), timed.append)
    assert len(timed) > 2
    assert timed == sorted(timed)
