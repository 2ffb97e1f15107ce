import random

import pytest

from serving.dispatch import ExpectedOutput


def test_before_an_answer_is_seen_the_first_guess_holds() -> None:
    assert ExpectedOutput().tokens(None) == 512
    assert ExpectedOutput(first_guess_tokens=90).tokens(None) == 90


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, 512), (100, 100), (512, 512), (131_072, 512), (0, 512), (-1, 512)],
)
def test_a_limit_counts_only_where_it_is_below_what_is_usual(
    limit: int | None, expected: int
) -> None:
    assert ExpectedOutput(512).tokens(limit) == expected


def test_the_mean_of_the_answers_is_learnt_whatever_their_order() -> None:
    expected, rng = ExpectedOutput(512), random.Random(1)
    for _ in range(500):
        expected.observe(rng.choice([20, 60, 220]))
    assert expected.tokens(None) == pytest.approx(100, rel=0.2)


def test_one_odd_answer_moves_it_by_a_hundredth_and_a_lasting_change_by_half_in_70() -> None:
    expected = ExpectedOutput(200)
    expected.observe(10_200)
    assert expected.tokens(None) == 300
    expected = ExpectedOutput(200)
    for _ in range(70):
        expected.observe(1000)
    assert expected.tokens(None) == pytest.approx(600, rel=0.02)
