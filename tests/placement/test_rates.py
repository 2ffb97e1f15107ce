import random

import pytest

from serving.placement import Rates


def learnt(tokens_per_s: float, overhead_ms: float, sizes: list[int], noise: float = 0.2) -> Rates:
    rates, rng = Rates(prefill_tokens_per_s=10_000, overhead_ms=20), random.Random(1)
    for _ in range(300):
        tokens = rng.choice(sizes)
        ms = overhead_ms + 1000 * tokens / tokens_per_s
        rates.observe_first_token(tokens, ms * rng.uniform(1 - noise, 1 + noise))
    return rates


def test_before_anything_is_seen_the_first_guess_holds() -> None:
    rates = Rates(10_000, 20, 15, 1e-4)
    assert rates.prefill_tokens_per_s == pytest.approx(10_000)
    assert rates.first_token_ms(1000) == pytest.approx(120)
    assert rates.step_ms(50_000) == pytest.approx(20)


@pytest.mark.parametrize("tokens_per_s", [300, 5_000, 22_000, 90_000])
def test_rate_and_overhead_are_learnt(tokens_per_s: float) -> None:
    rates = learnt(tokens_per_s, 50, [20, 500, 4000, 16_000])
    assert rates.prefill_tokens_per_s == pytest.approx(tokens_per_s, rel=0.1)
    assert rates.first_token_ms(0) == pytest.approx(50, rel=0.25)


@pytest.mark.parametrize("tokens_per_s", [300, 5_000, 22_000, 90_000])
@pytest.mark.parametrize("size", [30, 500, 8000])
def test_prompts_of_one_size_are_enough_to_predict_that_size(
    size: int, tokens_per_s: float
) -> None:
    rates = learnt(tokens_per_s, 40, [size])
    assert rates.first_token_ms(size) == pytest.approx(40 + 1000 * size / tokens_per_s, rel=0.1)
    assert rates.prefill_ms_per_token > 0


def test_what_can_be_decoded_in_time_follows_the_steps() -> None:
    rates, slow = Rates(10_000, 20, 10, 1e-4), 1.5
    assert rates.context_tokens(30) == pytest.approx(200_000)
    for _ in range(100):
        rates.observe_steps(100_000, slow * 20)
    assert rates.context_tokens(30) == pytest.approx(100_000, rel=0.1)
    assert rates.step_ms(rates.context_tokens(45)) == pytest.approx(45)


def test_stalls_and_wrong_expectations_of_the_cache_move_little() -> None:
    rates, rng = Rates(10_000, 20), random.Random(2)
    for i in range(400):
        tokens = rng.choice([500, 4000, 16_000])
        ms = 20 + tokens / 10
        if i % 20 == 0:
            ms = 60_000
        elif i % 20 == 10:
            ms = 20
        rates.observe_first_token(tokens, ms)
    assert rates.prefill_tokens_per_s == pytest.approx(10_000, rel=0.2)


@pytest.mark.parametrize(("tokens_per_s", "overhead_ms"), [(5_000, 20), (10_000, 40), (5_000, 40)])
def test_one_that_is_twice_as_slow_as_guessed_is_known_after_50_requests_whichever_term_it_is(
    tokens_per_s: float, overhead_ms: float
) -> None:
    rates, rng = Rates(prefill_tokens_per_s=10_000, overhead_ms=20), random.Random(3)
    for _ in range(50):
        tokens = rng.choice([20, 500, 4000, 16_000])
        rates.observe_first_token(tokens, overhead_ms + 1000 * tokens / tokens_per_s)
    assert rates.prefill_tokens_per_s == pytest.approx(tokens_per_s, rel=0.1)
    assert rates.overhead_ms == pytest.approx(overhead_ms, rel=0.15)


@pytest.mark.parametrize(("times", "requests"), [(2, 45), (4, 60), (0.5, 45)])
def test_a_replica_whose_speed_changes_is_noticed_within_some_tens_of_requests(
    times: float, requests: int
) -> None:
    rates = learnt(10_000, 20, [500, 4000])
    now_ms = 20 + 400 * times
    for _ in range(requests):
        rates.observe_first_token(4000, now_ms)
    assert rates.first_token_ms(4000) == pytest.approx(now_ms, rel=0.25)


def test_steps_are_learnt_too() -> None:
    """The first guess has twice the true fixed part, and 60 % of the other."""
    rates, rng = Rates(step_ms=20, step_ms_per_context_token=6e-5), random.Random(1)
    for _ in range(300):
        context_tokens = rng.randrange(2_000, 140_000)
        rates.observe_steps(context_tokens, 10 + 1e-4 * context_tokens)
    for context_tokens in (10_000, 70_000, 140_000):
        expected_ms = 10 + 1e-4 * context_tokens
        assert rates.step_ms(context_tokens) == pytest.approx(expected_ms, rel=0.1)
    assert rates.step_ms_per_context_token == pytest.approx(1e-4, rel=0.25)
