import pytest

from serving.planner.day import Day, day


def of(base: int = 2, peak: int = 5, price: float | None = 3.0, peak_per_s: float = 30) -> Day:
    return day(
        base_per_s=10,
        peak_per_s=peak_per_s,
        base_replicas=base,
        peak_replicas=peak,
        gpus=2,
        prompt_tokens=1000,
        output_tokens=100,
        gpu_hour_price=price,
    )


def test_a_steady_day_takes_all_replicas_all_the_time() -> None:
    steady = of(base=2, peak=2, peak_per_s=10)
    assert steady.gpu_hours == pytest.approx(2 * 2 * 24)
    assert steady.requests == 10 * 86_400
    assert steady.output_tokens == 100 * steady.requests
    assert steady.cost == pytest.approx(3 * 96)
    assert steady.cost_per_million_output_tokens == pytest.approx(288 / 86.4)
    assert steady.cost_per_million_tokens == pytest.approx(288 / 950.4)


def test_replicas_follow_the_rate_and_are_whole() -> None:
    """A cosine's mean is half way; rounding up adds less than one replica."""
    assert 2 * 24 * 3.5 < of().gpu_hours < 2 * 24 * 4.5
    assert of().requests == pytest.approx(20 * 86_400)


def test_without_a_price_there_is_no_cost() -> None:
    free = of(price=None)
    assert (free.cost, free.cost_per_million_tokens) == (None, None)
