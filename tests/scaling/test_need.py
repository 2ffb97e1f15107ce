import math

import pytest

from serving.scaling.need import Need
from tests.scaling.fleet import observed


def test_replicas_are_whole() -> None:
    need = Need("prefill", target=100, low=300, high=301)
    assert (need.at_least, need.at_most) == (3, 4)
    assert Need("prefill", 0.1, 0.3, math.inf).at_least == 3
    assert Need("prefill", 100, 0, math.inf).at_most == math.inf


def test_with_fewer_replicas_answers_take_longer() -> None:
    need = Need("kv_cache", target=80_000, low=0, high=80_000)
    busy = need.with_fewer(observed(2), prefill_tokens_per_s=8_000)
    assert busy.high == pytest.approx(80_000 * 0.6 / 0.2)
    assert need.with_fewer(observed(2), prefill_tokens_per_s=0).high == 80_000
    assert need.with_fewer(observed(2), prefill_tokens_per_s=1e9).high == pytest.approx(80_000)


def test_one_that_never_came_up_is_not_missed() -> None:
    need = Need("kv_cache", target=80_000, low=0, high=80_000)
    assert need.with_fewer(observed(2, starting=1), prefill_tokens_per_s=8_000).high == 80_000


def test_prefill_is_the_same_however_many_do_it() -> None:
    need = Need("prefill", target=8_000, low=0, high=8_000)
    assert need.with_fewer(observed(2), prefill_tokens_per_s=8_000) == need
