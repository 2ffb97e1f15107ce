import pytest

from serving.simulator.resample import multiplied, repeated
from serving.simulator.workload import Arrival, answered
from tests.support.loads import sessions, shared_prefixes


def hashes(arrivals: list[Arrival]) -> list[int]:
    return [block for arrival in arrivals for block in arrival.request.prefix.hashes]


@pytest.mark.parametrize("times", [0.3, 1.0, 2.5])
def test_a_load_has_so_many_times_the_requests_in_the_same_time(times: float) -> None:
    base = shared_prefixes(2000, 10.0)
    result = list(multiplied(base, times))
    assert len(result) == pytest.approx(2000 * times, rel=0.05)
    assert [a.at_s for a in result] == sorted(a.at_s for a in result)
    assert result[-1].at_s == pytest.approx(base[-1].at_s, abs=11)
    lengths = {arrival.request.prompt_tokens for arrival in result}
    assert lengths == {7200}


def test_once_is_the_load_itself() -> None:
    base = shared_prefixes(50, 10.0)
    assert list(multiplied(base, 1.0)) == base
    assert list(repeated(base, 1)) == base


def test_copies_share_among_each_other_what_the_originals_do_and_nothing_with_these() -> None:
    base = shared_prefixes(100, 10.0, prefixes=3, users=2)
    for more in (list(multiplied(base, 2.0)), list(repeated(base, 2))):
        assert len(more) == 200
        assert len(set(hashes(more))) == 2 * len(set(hashes(base)))


def test_copies_of_copies_are_others() -> None:
    base = shared_prefixes(20, 10.0, prefixes=2, users=1)
    both = list(multiplied(repeated(base, 3), 2.0))
    assert len(set(hashes(both))) == 6 * len(set(hashes(base)))


def test_a_repeated_load_goes_on_at_its_rate() -> None:
    base = shared_prefixes(100, 10.0)
    result = list(repeated(base, 3))
    assert len(result) == 300
    gap_s = result[100].at_s - result[99].at_s
    assert gap_s == pytest.approx((base[-1].at_s - base[0].at_s) / 99)


def test_the_turns_of_a_copied_session_still_follow_their_answers() -> None:
    copied = list(repeated(sessions(5, 1.0), 2))[5:]
    turns = 0
    for arrival in copied:
        turn = arrival.request
        while turn.next_turn is not None:
            before, turn = answered(turn), turn.next_turn
            assert turn.prefix.hashes[: len(before.hashes)] == before.hashes
            turns += 1
    assert turns > 10
    assert not {a.request.session for a in copied} & {a.request.session for a in sessions(5, 1.0)}
