"""Which requests get the canary of an adapter, and when it is promoted or withdrawn."""

from typing import Any

import pytest
from pydantic import ValidationError

from serving.adapters.canary import Rule, Tally, Verdict, is_chosen, verdict
from serving.adapters.config import AdapterConfig, check_adapters

KEYS = [f"request-{n}" for n in range(4000)]
RULE = Rule(requests=100, max_failures=0.02, max_ttft_ratio=1.5)


def tally(requests: int, failures: int = 0, ttft_s: float | None = 0.1) -> Tally:
    tallied = Tally()
    for n in range(requests):
        tallied.add(n < failures, ttft_s)
    return tallied


def test_the_share_is_that_of_the_weight_and_grows_with_it() -> None:
    chosen = [{key for key in KEYS if is_chosen(key, weight)} for weight in (0, 0.1, 0.5, 1)]
    assert not chosen[0] and len(chosen[3]) == len(KEYS)
    assert 0.08 < len(chosen[1]) / len(KEYS) < 0.12
    assert 0.46 < len(chosen[2]) / len(KEYS) < 0.54
    assert chosen[1] < chosen[2]


def judged(stable: Tally, canary: Tally) -> Verdict | None:
    return verdict(RULE, stable, canary)


def test_a_canary_that_answers_as_well_is_promoted_after_enough_requests() -> None:
    assert judged(tally(1000), tally(99)) is None
    found = judged(tally(1000, failures=20), tally(100, failures=4))
    assert found is not None and found.is_good


def test_a_canary_is_withdrawn_as_soon_as_too_many_fail() -> None:
    assert judged(tally(1000), tally(10, failures=2)) is None
    found = judged(tally(1000), tally(10, failures=3))
    assert found == Verdict(False, "3 of 10 requests failed, 2.0% may")


def test_a_slow_canary_is_withdrawn() -> None:
    found = judged(tally(1000, ttft_s=0.1), tally(100, ttft_s=0.2))
    assert found == Verdict(
        False, "its TTFT is 2.00 times that of the stable version, 1.5 times it may be"
    )


def test_a_few_loads_of_a_canary_make_it_no_slow_one() -> None:
    canary = tally(97)
    for _ in range(3):
        canary.add(False, 5.0)
    found = judged(tally(1000), canary)
    assert found is not None and found.is_good


def test_without_streams_there_is_no_ttft_to_compare() -> None:
    found = judged(tally(1000, ttft_s=None), tally(100, ttft_s=9.0))
    assert found is not None and found.is_good


def declared(**canary: Any) -> AdapterConfig:
    return AdapterConfig(name="a", source="/1", tenants=("t",), canary=canary)  # type: ignore[arg-type]


def test_a_canary_takes_the_place_of_the_stable_version() -> None:
    promoted = declared(source="owner/name", revision="0" * 40, weight=0.1).promoted()
    assert promoted == AdapterConfig(
        name="a", source="owner/name", revision="0" * 40, tenants=("t",)
    )


@pytest.mark.parametrize(
    "canary", [{"source": "relative"}, {"source": "owner/name"}, {"source": "/2", "weight": 1.1}]
)
def test_a_wrong_canary_is_refused(canary: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        declared(**canary)


def test_a_rule_is_for_declarations_that_can_be_changed() -> None:
    with pytest.raises(Exception, match="only what is declared in adapters_folder may have a rule"):
        check_adapters([declared(source="/2", rule={})], None, None)
