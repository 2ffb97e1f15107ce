import pytest

from tests.simulator.engines import mistral_small


@pytest.mark.parametrize(
    ("gpus", "batch", "expected_ms"),
    [(1, 1, 18.7), (1, 32, 22.5), (1, 128, 34.2), (2, 1, 10.1), (2, 32, 12.0), (2, 128, 17.9)],
)
def test_decode_steps_take_what_the_weights_and_the_cache_take_to_read(
    gpus: int, batch: int, expected_ms: float
) -> None:
    step_s = mistral_small(gpus).step_time.decode_s(1, batch, batch * 2048)
    assert 1000 * step_s == pytest.approx(expected_ms, rel=0.015)


@pytest.mark.parametrize(("gpus", "tokens_per_s"), [(1, 11_000), (2, 22_000)])
def test_a_chunk_of_prefill_takes_half_of_the_peak_flops(gpus: int, tokens_per_s: int) -> None:
    step_s = mistral_small(gpus).step_time.mixed_s(2048, 0, 0, 0)
    assert 2048 / step_s == pytest.approx(tokens_per_s, rel=0.03)


def test_attention_adds_a_quarter_to_a_prompt_of_32k() -> None:
    step_time = mistral_small(1).step_time
    alone_s = step_time.mixed_s(32_768, 0, 0, 0)
    assert step_time.mixed_s(32_768, 32_768**2 / 2, 0, 0) / alone_s == pytest.approx(1.24, abs=0.01)


def test_many_decode_steps_take_as_long_as_one_after_the_other() -> None:
    step_time = mistral_small().step_time
    one_by_one_s = sum(step_time.decode_s(1, 7, 5000 + 7 * step) for step in range(100))
    assert step_time.decode_s(100, 7, 5000) == pytest.approx(one_by_one_s)


@pytest.mark.parametrize("steps", [0, 1, 2, 99, 1000])
def test_the_steps_in_a_time_are_those_that_are_complete(steps: int) -> None:
    step_time = mistral_small().step_time
    complete_s = step_time.decode_s(steps, 40, 300_000)
    assert step_time.decode_steps_in(complete_s, 40, 300_000) == steps
    assert step_time.decode_steps_in(complete_s + 0.005, 40, 300_000) == steps
