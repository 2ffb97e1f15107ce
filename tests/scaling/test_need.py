import math

import pytest

from serving.scaling.need import Need, WithFewer
from tests.scaling.fleet import observed


def test_replicas_are_whole() -> None:
    need = Need("prefill", target=100, low=300, high=301)
    assert (need.at_least, need.at_most) == (3, 4)
    assert Need("prefill", 0.1, 0.3, math.inf).at_least == 3
    assert Need("prefill", 100, 0, math.inf).at_most == math.inf


def test_with_fewer_replicas_answers_take_longer() -> None:
    need = Need("kv_cache", target=80_000, low=0, high=80_000)
    busy = WithFewer.of(observed(2), 8_000, 60)
    assert need.with_fewer(busy).high == pytest.approx(80_000 * 0.6 / 0.2)
    assert WithFewer.of(observed(2), 0, 60).stay == 1
    # As much as can be reckoned with.
    assert WithFewer.of(observed(2), 1e9, 60).stay == pytest.approx(1)


def test_steps_that_read_more_take_longer() -> None:
    full = WithFewer.of(observed(2, running_kv_tokens=100_000), 0, 60)
    assert full.stay == pytest.approx(2 / 1.5)


def test_what_only_it_had_cached_is_prefilled_again() -> None:
    need = Need("prefill", target=8_000, low=0, high=1_000)
    little = WithFewer.of(observed(2, cached_prompt_tokens_per_s=3_000), 0, 60)
    assert need.with_fewer(little).high == 2_500
    # At most all that its cache holds.
    lots = WithFewer.of(observed(2, cached_prompt_tokens_per_s=1e6), 0, 60)
    assert lots.prefill_tokens_per_s == pytest.approx(100_000 / 60)
    assert lots.stay > 1


def test_one_that_never_came_up_is_not_missed() -> None:
    starting = observed(2, starting=1, cached_prompt_tokens_per_s=1e6)
    assert WithFewer.of(starting, 8_000, 60) == WithFewer()
    assert WithFewer.of(observed(1), 8_000, 60) == WithFewer()
