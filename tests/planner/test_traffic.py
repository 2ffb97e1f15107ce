from pathlib import Path

import pytest

from serving.planner.traffic import made_up, recorded

MOONCAKE = (
    '{"timestamp": 0, "input_length": 1300, "output_length": 50, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 9000, "input_length": 1000, "output_length": 10, "hash_ids": [0, 1]}\n'
)


def test_made_up_requests_have_the_lengths_that_are_said() -> None:
    traffic = made_up(10, 30, 2000, 300, 0.5, 8)
    load = traffic.load(10).load(seed=1)
    requests = [arrival.request for arrival in load.arrivals]
    assert load.seconds == 200
    prompts = sum(request.prompt_tokens for request in requests) / len(requests)
    assert prompts == pytest.approx(2000, rel=0.05)
    assert sum(r.output_tokens for r in requests) / len(requests) == pytest.approx(300, rel=0.05)
    assert len({request.prefix.hashes[0] for request in requests}) == 8
    assert min(request.prompt_tokens for request in requests) > 1000


def test_the_share_that_is_too_long_is_that_of_the_requests() -> None:
    traffic = made_up(50, 50, 2000, 700, 0.25, 8)
    requests = [arrival.request for arrival in traffic.load(50).load(seed=0).arrivals]
    for context_tokens in (400, 1500, 4000, 8000):
        longer = sum(r.prompt_tokens + r.output_tokens > context_tokens for r in requests)
        assert traffic.longer_than(context_tokens) == pytest.approx(
            longer / len(requests), abs=0.015
        )


def test_equal_means_are_no_division_by_zero() -> None:
    same, near = made_up(1, 1, 600, 300, 0.5, 1), made_up(1, 1, 601, 300, 0.5, 1)
    assert same.longer_than(2000) == pytest.approx(near.longer_than(2000), rel=0.02)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_prompts_may_share_nothing_or_all_but_a_token(share: float) -> None:
    traffic = made_up(1, 1, 500, 20, share, 2)
    first = next(iter(traffic.load(1).load(seed=0).arrivals)).request
    assert first.prompt_tokens >= 1
    assert traffic.uncached_tokens >= 1


def test_a_trace_has_its_own_rate_lengths_and_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(MOONCAKE)
    traffic = recorded(path, None, None)
    assert traffic.base_per_s == traffic.peak_per_s == pytest.approx(2 / 9, abs=1e-3)
    assert (traffic.prompt_tokens, traffic.output_tokens) == (1150, 30)
    assert traffic.cached_tokens == pytest.approx((1000 - 1) // 16 * 16 / 2)
    assert traffic.longer_than(1010) == 0.5
    assert traffic.longer_than(1350) == 0.0


def test_a_trace_is_played_at_the_rate_until_there_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    row = '{"timestamp": %d, "input_length": 600, "output_length": 10, "hash_ids": [0, 1]}\n'
    path.write_text("".join(row % (500 * number) for number in range(60)))
    load = recorded(path, 4, 8).load(8)
    arrivals = list(load.load(seed=0).arrivals)
    assert len(arrivals) == 2000
    assert arrivals[-1].at_s == pytest.approx(250, rel=0.05)
    assert (load.rate_per_s, load.trace) == (8, path)
