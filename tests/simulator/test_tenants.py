"""Tenants that share simulated engines, with the rates and caches that routers learn."""

import pytest

from serving.dispatch import TenantLimits
from serving.placement import LeastCost
from serving.simulator.load import LoadConfig
from serving.simulator.request import Outcome
from serving.simulator.result import quantile
from serving.simulator.run import run
from serving.simulator.scenario import read
from serving.simulator.simulation import Simulation
from serving.simulator.tenants import TenantLoad, together
from tests.simulator.engines import mistral_small

SPEC = mistral_small(2)
WARM_S = 30.0
UNTIL_S = WARM_S + 60
FULL_STEP_S = SPEC.step_time.decode_s(1, 64, 64 * 1200) / 64
"""A token's part of a step of 64 sequences."""


def tenant(
    name: str,
    per_s: float,
    weight: float = 1,
    *,
    limits: TenantLimits | None = None,
    prompt_tokens: int = 1000,
    output_tokens: int = 60,
    begins_s: float = 0.0,
) -> TenantLoad:
    load = LoadConfig(
        rate_per_s=per_s,
        duration_s=UNTIL_S - begins_s,
        prefixes=5,
        prefix_tokens=200,
        questions_per_prefix=1000,
        question_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )
    return TenantLoad(name=name, weight=weight, limits=limits, load=load, begins_s=begins_s)


def simulate(*tenants: TenantLoad, replicas: int = 1, routers: int = 1) -> list[Outcome]:
    simulation = Simulation(
        SPEC, replicas, LeastCost, routers=routers, lag_s=0.01, max_wait_s=10.0, tenants=tenants
    )
    return list(simulation.run(together(tenants, 1).arrivals).outcomes)


def engine_s(
    outcomes: list[Outcome], name: str, since_s: float = WARM_S, until_s: float = UNTIL_S
) -> float:
    """Returns the engine time of the tenant's requests whose prompts were read in this time."""
    return sum(
        SPEC.step_time.prefill_s(of.request.prompt_tokens, of.cached_tokens)
        + of.request.output_tokens * FULL_STEP_S
        for of in outcomes
        if of.request.tenant == name and of.first_token_s and since_s <= of.first_token_s < until_s
    )


def test_engine_time_is_shared_by_weight() -> None:
    outcomes = simulate(tenant("three", 40, 3), tenant("one", 25))
    assert engine_s(outcomes, "three") / engine_s(outcomes, "one") == pytest.approx(3, rel=0.05)


@pytest.mark.full
def test_four_routers_share_engine_time_by_weight() -> None:
    outcomes = simulate(tenant("three", 80, 3), tenant("one", 50), replicas=2, routers=4)
    assert engine_s(outcomes, "three") / engine_s(outcomes, "one") == pytest.approx(3, rel=0.05)


@pytest.mark.full
def test_a_tenant_that_wakes_up_has_its_share_of_the_engine_within_five_seconds() -> None:
    outcomes = simulate(
        tenant("three", 40, 3), tenant("one", 25), tenant("late", 25, 2, begins_s=50)
    )
    # Engines first read the second of prompts that they already have.
    served = [engine_s(outcomes, name, 52, 57) for name in ("three", "one", "late")]
    assert served[2] / sum(served) >= 0.85 * 2 / 6


def test_engine_time_is_shared_though_the_tenants_requests_differ() -> None:
    """Routers count the time that decoding takes beside a prefill as prefill, so the tenant with
    the long prompts has somewhat less than its share."""
    outcomes = simulate(
        tenant("three", 40, 3), tenant("one", 25, prompt_tokens=3000, output_tokens=10)
    )
    assert 2.7 < engine_s(outcomes, "three") / engine_s(outcomes, "one") < 4.2


@pytest.mark.full
@pytest.mark.parametrize("routers", [1, 4])
def test_an_abuser_at_a_hundred_times_its_limit_is_not_noticed(routers: int) -> None:
    def p99_s(abuse: int) -> tuple[float, int]:
        outcomes = simulate(
            *(tenant(name, 16) for name in ("a", "b")),
            tenant("abuser", abuse, limits=TenantLimits(requests_per_minute=60)),
            replicas=4,
            routers=routers,
        )
        others = [of for of in outcomes if of.request.tenant != "abuser" and of.sent_s > WARM_S]
        served = [of for of in outcomes if of.request.tenant == "abuser" and of.end_s]
        ttfts_s = [of.ttft_s for of in others if of.ttft_s is not None]
        assert len(ttfts_s) == len(others)
        return quantile(sorted(ttfts_s), 0.99), len(served)

    (alone_s, few), (beside_s, many) = p99_s(1), p99_s(100)
    assert beside_s <= 1.1 * alone_s
    assert few <= many <= 2 * 60 * 1.02


def test_a_scenario_with_tenants_says_what_each_of_them_had() -> None:
    overrides = ["fleet.replicas=1", "fleet.routers=2"]
    scenario = read(None, overrides).model_copy(
        update={
            "tenants": (tenant("a", 5), tenant("b", 5, limits=TenantLimits(tokens_per_minute=9000)))
        }
    )
    report = run(scenario)
    assert report.as_json() == run(scenario).as_json()
    a, b = report.tenants["a"], report.tenants["b"]
    assert a.requests.requests + b.requests.requests == report.total.requests
    assert a.requests.refused == 0 < b.requests.refused
    assert a.engine_s > 5 * b.engine_s > 0
