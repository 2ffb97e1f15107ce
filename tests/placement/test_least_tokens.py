import pytest

from serving.placement import LeastTokens, ReplicaLoad
from tests.placement.works import work


def choose(loads: list[ReplicaLoad]) -> int:
    return LeastTokens().choose(work(1), loads, [0] * len(loads), now_s=0.0)


def loaded(*prompts_tokens: int) -> ReplicaLoad:
    load = ReplicaLoad()
    for prompt_tokens in prompts_tokens:
        load.book(work(prompt_tokens=prompt_tokens, output_tokens=0), 0, now_s=0.0)
    return load


def test_the_fewest_tokens_win_whatever_the_number_of_requests() -> None:
    assert choose([loaded(900), loaded(10, 20, 30), loaded(500)]) == 1


def test_of_equal_tokens_the_fewest_requests_win_then_the_first() -> None:
    assert choose([loaded(50, 50), loaded(100), loaded(100)]) == 1


def test_expected_answers_count() -> None:
    long_answer = ReplicaLoad()
    long_answer.book(work(prompt_tokens=10, output_tokens=2000), 0, now_s=0.0)
    assert choose([long_answer, loaded(1000)]) == 1


def test_none_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError):
        choose([])
