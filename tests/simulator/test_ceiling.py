import pytest

from serving.simulator.ceiling import hit_rate_ceiling
from serving.simulator.request import Request
from serving.simulator.workload import Arrival, PromptMaker
from tests.support.loads import sessions


def arrivals(*requests: Request) -> list[Arrival]:
    return [Arrival(float(number), request) for number, request in enumerate(requests)]


def test_all_is_cached_but_what_is_new_and_the_last_token() -> None:
    prompt = PromptMaker().extend(None, 1600)
    once, again = Request(prompt, 10, -1), Request(prompt, 10, -2)
    assert hit_rate_ceiling(arrivals(once)) == 0
    assert hit_rate_ceiling(arrivals(once, again)) == 1584 / 3200


def test_a_small_cache_forgets_what_was_used_longest_ago() -> None:
    maker = PromptMaker()
    one, two = (Request(maker.extend(None, 1600), 1, maker.fresh()) for _ in range(2))
    alternating = arrivals(one, two, one, two)
    assert hit_rate_ceiling(alternating, 4000) == 2 * 1584 / 6400
    assert hit_rate_ceiling(alternating, 1600) == 0
    tail_lost = hit_rate_ceiling(arrivals(one, two, one), 2400)
    assert tail_lost == pytest.approx(800 / 4800)


def test_answers_are_cached_for_the_next_turn() -> None:
    assert hit_rate_ceiling(sessions(50, 1.0)) > 0.8
