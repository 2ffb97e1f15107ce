import pytest

from serving.ledger.gpu_time import gpu_seconds
from serving.ledger.tokens import Tokens
from serving.placement import Rates

RATES = Rates(prefill_tokens_per_s=10_000, step_ms=20.0, step_ms_per_context_token=1e-4)


def test_a_prompt_costs_what_of_it_was_not_cached() -> None:
    assert gpu_seconds(Tokens(input=1000, cached=400), RATES, 2, 1) == pytest.approx(2 * 0.06)


def test_sequences_that_are_decoded_together_share_the_reading_of_the_weights() -> None:
    answer = Tokens(output=100, generated=100)
    alone, among_ten = (gpu_seconds(answer, RATES, 2, sequences) for sequences in (1, 10))
    context_s = 2 * 100 * 50 * 1e-4 / 1000
    assert alone - context_s == pytest.approx(10 * (among_ten - context_s))
    assert alone == pytest.approx(2 * 2.0 + context_s)


def test_without_gpus_there_is_no_gpu_time() -> None:
    assert gpu_seconds(Tokens(1000, 0, 100, 1000, 100), RATES, 0, 4) == 0
