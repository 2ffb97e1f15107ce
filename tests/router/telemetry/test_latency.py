"""Latency distributions compared with exact ones."""

import math
import random
import statistics
from collections.abc import Callable

import pytest

from serving.router.telemetry import objectives
from serving.router.telemetry.latency import EDGES_S, Latency, StreamClock

QUANTILES = (0.5, 0.9, 0.99)


def exact(seconds: list[float]) -> list[float]:
    ordered = sorted(seconds)
    return [ordered[math.ceil(q * len(ordered)) - 1] for q in QUANTILES]


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: r.lognormvariate(math.log(0.025), 0.3),
        lambda r: r.lognormvariate(math.log(0.4), 1.0),
        lambda r: r.choice((0.010, 0.0101, 0.3)),
        lambda r: 0.02,
        lambda r: r.uniform(0.0005, 500),
    ],
    ids=["itl", "ttft", "three", "one", "wide"],
)
def test_quantiles_are_within_2_percent_of_the_exact_ones(
    draw: Callable[[random.Random], float],
) -> None:
    rng = random.Random(1)
    seconds = [draw(rng) for _ in range(5000)]
    observed = Latency()
    for one in seconds:
        observed.observe(one)
    assert observed.recent(QUANTILES) == pytest.approx(exact(seconds), rel=0.02)
    assert observed.sum_s == pytest.approx(math.fsum(seconds))


def test_buckets_are_cumulative_with_their_edges_inside() -> None:
    observed = Latency()
    for seconds in (0.0, 0.25, 0.2500001, 2.5, 3000.0):
        observed.observe(seconds)
    assert observed.buckets(objectives.TTFT_EDGES_S) == [
        ("0.25", 2),
        ("1.0", 3),
        ("2.5", 4),
        ("10.0", 4),
        ("+Inf", 5),
    ]
    assert observed.recent([1.0]) == [EDGES_S[-1]]


def test_the_objectives_are_edges() -> None:
    assert objectives.TTFT_S in objectives.TTFT_EDGES_S
    assert objectives.ITL_S in objectives.ITL_EDGES_S
    assert objectives.DURATION_S in objectives.DURATION_EDGES_S


def test_quantiles_are_of_the_last_minute_or_two() -> None:
    now_s = 0.0
    observed = Latency(lambda: now_s)
    shortest_s = []
    for tick in range(10):
        now_s = 30.0 * tick
        if tick < 6:
            observed.observe(1.0 + tick)
        shortest_s.append(observed.recent([0.01])[0])
    expected = [1, 1, 1, 1, 4, 4, 6, 6, math.nan, math.nan]
    assert shortest_s == pytest.approx(expected, rel=0.02, nan_ok=True)


def test_a_stream_is_timed_as_a_client_with_a_stopwatch_does() -> None:
    rng = random.Random(2)
    ttft, itl = Latency(lambda: 0.0), Latency(lambda: 0.0)
    first_s, gaps_s = [], []
    now_s = 100.0
    for _ in range(300):
        stream = StreamClock(now_s, ttft, itl)
        first_s.append(rng.lognormvariate(math.log(0.3), 0.5))
        now_s += first_s[-1]
        stream.sent(2, now_s)
        for _ in range(50):
            tokens = rng.choice((1, 1, 1, 3))
            gaps_s += [rng.lognormvariate(math.log(0.03), 0.4)] + [0.0] * (tokens - 1)
            now_s += gaps_s[-tokens]
            stream.sent(tokens, now_s)
        now_s += 7
        stream.sent(0, now_s)  # an event without a token, such as the end
    assert ttft.recent(QUANTILES) == pytest.approx(exact(first_s), rel=0.02)
    assert itl.recent(QUANTILES)[1:] == pytest.approx(exact(gaps_s)[1:], rel=0.02)
    assert itl.buckets([])[-1] == ("+Inf", len(gaps_s))
    assert itl.sum_s / len(gaps_s) == pytest.approx(statistics.fmean(gaps_s))
