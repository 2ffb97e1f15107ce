"""Which requests count as those that an engine died of."""

import pytest

from serving.engine.last_steps import EngineDeathError, LastSteps


def suspects(steps: LastSteps, *ids: str) -> list[int]:
    return [steps.death(one).suspects for one in ids]


def test_those_without_a_token_are_suspects_and_know_how_many_they_are() -> None:
    steps = LastSteps()
    for at_s, one in enumerate("abc"):
        steps.enter(one, at_s)
    steps.prefilled("b")
    assert suspects(steps, "a", "b", "c") == [2, 0, 2]


def test_the_number_is_that_at_the_death_whoever_asks_when() -> None:
    steps = LastSteps()
    steps.enter("a", 0)
    steps.enter("b", 0)
    assert suspects(steps, "a") == [2]
    steps.leave("a", 1)
    steps.enter("late", 2)
    assert suspects(steps, "b", "late") == [2, 0]


def test_one_whose_client_has_left_is_a_suspect_until_the_engine_has_survived_it() -> None:
    steps = LastSteps()
    steps.enter("left", 0)
    steps.leave("left", 5)
    steps.enter("a", 6)
    steps.answered(sent_s=4)
    assert suspects(steps, "a") == [2]

    steps = LastSteps()
    steps.enter("left", 0)
    steps.leave("left", 5)
    steps.enter("a", 6)
    steps.answered(sent_s=5.5)
    assert suspects(steps, "a") == [1]


def test_what_was_sent_after_the_ping_that_a_hang_never_answers_is_no_suspect() -> None:
    steps = LastSteps()
    steps.enter("hangs", 1.0)
    steps.enter("later", 3.0)
    steps.hang(since_s=2.0)
    assert suspects(steps, "hangs", "later") == [1, 0]


def test_what_a_request_raises_is_a_death_only_if_the_engine_died() -> None:
    steps = LastSteps()
    with pytest.raises(KeyError), steps.running("a", lambda: False):
        raise KeyError
    with pytest.raises(EngineDeathError) as died, steps.running("b", lambda: True):
        raise KeyError
    assert died.value.suspects == 2
