import pytest

from serving.simulator.engine import EngineSpec
from serving.simulator.step_time import StepTime
from tests.bench.simulator_tiny import BATCHES, PROMPTS, Batch, Timing, fit, load, simulated, step_s

TIME = StepTime(
    prefill_tokens_per_s=30_000,
    weights_s=0.0,
    kv_token_s=2e-7,
    attention_s=1e-9,
    overhead_s=0.003,
    sequence_s=0.0005,
)
SPEC = EngineSpec(TIME, 100_000, async_scheduling=False, request_overhead_s=0.006)


def test_step_times_are_found_again() -> None:
    prompts = [(n, 0.006 + TIME.mixed_s(n, n * n / 2, 0, 0)) for n in PROMPTS]
    batches = [Batch(n, n * t, TIME.decode_s(1, n, n * t)) for n, t in BATCHES]
    fitted = fit(prompts, batches)
    found = fitted.step_time
    assert found.prefill_tokens_per_s == pytest.approx(30_000)
    assert (found.overhead_s, found.sequence_s) == pytest.approx((0.003, 0.0005))
    assert (found.kv_token_s, found.attention_s) == pytest.approx((2e-7, 1e-9))
    assert fitted.request_overhead_s == pytest.approx(0.006)


def test_no_term_is_negative() -> None:
    falling = [(n, 0.01 - 1e-6 * n) for n in PROMPTS]
    found = fit(falling, [Batch(n, n * t, 0.003) for n, t in BATCHES])
    assert 0 <= found.step_time.sequence_s < 1e-9
    assert found.step_time.attention_s == 0
    assert found.request_overhead_s > 0


def test_the_load_is_the_same_each_time_and_is_served() -> None:
    sent = load(5, 20, seed=3)
    assert sent == load(5, 20, seed=3)
    times = simulated(SPEC, sent)
    assert len(times) == len(sent) > 60
    assert min(ttft_s for ttft_s, _ in times) > 0.009


def test_a_step_is_timed_while_all_decode() -> None:
    """The longer steps before the other sequence's first token and after its end do not count."""
    early = Timing(0.0, [1.0, 2.0, 3.0, 3.1, 3.2, 3.3, 5.0])
    late = Timing(0.0, [3.0, 3.1, 3.2, 3.3])
    assert step_s([early, late]) == pytest.approx(0.1)
    assert step_s([late]) == pytest.approx(0.1)
