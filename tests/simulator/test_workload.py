import random

import pytest

from serving.simulator.shape import Form, Shape
from serving.simulator.workload import PromptMaker, answered, faster, shaped, shared_prefix_requests
from tests.support.loads import sessions, shared_prefixes, unshared


def test_a_prompt_goes_on_from_a_shared_beginning() -> None:
    maker = PromptMaker()
    context = maker.extend(None, 1100)
    one, other = maker.extend(context, 100), maker.extend(context, 50)
    assert context.ends_tokens == [512, 1024, 1100]
    assert one.hashes[:3] == other.hashes[:3] == context.hashes
    assert one.hashes[3] != other.hashes[3]
    assert (one.tokens, other.tokens) == (1200, 1150)


def test_the_shared_prefix_load_asks_few_prompts_again_and_again() -> None:
    arrivals = shared_prefixes(2000, 10.0, prefixes=3, users=2)
    prompts = [arrival.request.prefix for arrival in arrivals]
    assert len({tuple(prompt.hashes[:12]) for prompt in prompts}) == 3
    assert len({tuple(prompt.hashes) for prompt in prompts}) == 6
    assert {prompt.tokens for prompt in prompts} == {7200}
    assert 2000 / arrivals[-1].at_s == pytest.approx(10.0, rel=0.1)


def test_a_hot_prefix_has_its_share_with_questions_of_its_own() -> None:
    arrivals = shared_prefixes(1000, 10.0, prefixes=10, hot_share=0.4)
    first_blocks = [arrival.request.prefix.hashes[11] for arrival in arrivals]
    hot = max(set(first_blocks), key=first_blocks.count)
    assert first_blocks.count(hot) == pytest.approx(460, abs=60)


def test_unshared_prompts_have_nothing_in_common() -> None:
    arrivals = unshared(2000, 10.0)
    hashes = [one for arrival in arrivals for one in arrival.request.prefix.hashes]
    assert len(set(hashes)) == len(hashes)
    tokens = [arrival.request.prompt_tokens for arrival in arrivals]
    assert sum(tokens) / len(tokens) == pytest.approx(2000, rel=0.1)
    assert 2000 / arrivals[-1].at_s == pytest.approx(10.0, rel=0.1)


def test_a_turn_begins_with_the_one_before_and_its_answer() -> None:
    turns = 0
    for arrival in sessions(50, 1.0):
        turn = arrival.request
        while turn.next_turn is not None:
            before, turn = answered(turn), turn.next_turn
            assert turn.prefix.hashes[: len(before.hashes)] == before.hashes
            assert (
                turn.prefix.answer == before.answer == (len(before.hashes) - 1, len(before.hashes))
            )
            assert turn.prefix.tokens > before.tokens
            turns += 1
    assert turns > 100


def test_a_load_is_the_same_each_time() -> None:
    assert shared_prefixes(20, 1.0) == shared_prefixes(20, 1.0)
    assert sessions(20, 1.0) == sessions(20, 1.0)
    assert shared_prefixes(20, 1.0) != shared_prefixes(20, 1.0, seed=1)


def test_a_load_can_be_sent_faster() -> None:
    arrivals = shared_prefixes(20, 1.0)
    assert faster(arrivals, 4.0)[-1].at_s == arrivals[-1].at_s / 4


@pytest.mark.parametrize("low_per_s", [0.0, 20.0])
def test_requests_come_at_the_rate_of_a_shape_until_it_ends(low_per_s: float) -> None:
    shape = Shape(Form.spike, low_per_s, 100.0, 200.0)
    requests = shared_prefix_requests(random.Random(0))
    times_s = [arrival.at_s for arrival in shaped(requests, shape, random.Random(1))]
    assert times_s == sorted(times_s)
    assert times_s[-1] <= 200.0
    spike = [at_s for at_s in times_s if 80 <= at_s < 100]
    assert len(spike) / 20 == pytest.approx(100.0, rel=0.1)
    assert (len(times_s) - len(spike)) / 180 == pytest.approx(low_per_s, rel=0.1)
