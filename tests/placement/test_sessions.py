"""Sessions are known by their prompts, and leave a full cache in a fixed order."""

import pytest

from serving.placement import Booking, Capacity, Prefix, Rates, ReplicaLoad, Sessions, Work
from tests.placement.conversation import Conversation

CAPACITY = Capacity(100_000, 16)
RATES = Rates(prefill_tokens_per_s=10_000.0)
"""A replica reads as much as its cache holds in ten seconds."""


@pytest.fixture(autouse=True)
def room_for_80_000_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.placement.sessions._KEPT", 0.8)


def replica(name: str = "a") -> ReplicaLoad:
    return ReplicaLoad(name, CAPACITY, RATES)


def begin(
    sessions: Sessions, talk: Conversation, load: ReplicaLoad, now_s: float, cached_tokens: int = 0
) -> Booking:
    tokens = talk.prompt.tokens
    booking = load.book(Work(talk.prompt, tokens, 0), cached_tokens, now_s)
    sessions.begin(booking, tokens, cached_tokens, now_s)
    return booking


def turn(sessions: Sessions, talk: Conversation, load: ReplicaLoad, now_s: float) -> None:
    sessions.end(begin(sessions, talk, load, now_s), now_s)
    talk.answered()


def session(
    sessions: Sessions, number: int, tokens: int, load: ReplicaLoad, now_s: float
) -> Conversation:
    """Begins a session of two turns, which has `tokens` then, and returns its conversation."""
    talk = Conversation(number, tokens // 2)
    turn(sessions, talk, load, now_s)
    turn(sessions, talk, load, now_s)
    return talk


def is_member(sessions: Sessions, talk: Conversation) -> bool:
    found = sessions.find(talk.prompt)
    return found is not None and found.load is not None


def test_a_conversation_is_a_session_from_its_second_turn_on() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    turn(sessions, talk, load, 0.0)
    assert not is_member(sessions, talk)
    turn(sessions, talk, load, 1.0)
    assert is_member(sessions, talk)


def test_a_prompt_that_is_sent_again_is_the_same_turn() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    for _ in range(3):
        sessions.end(begin(sessions, talk, load, 0.0), 0.0)
    found = sessions.find(talk.prompt)
    assert found is not None and found.turns == 1 and found.running == 0


def test_an_answer_that_ends_after_the_next_turn_has_begun_ends_too() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    twice = [begin(sessions, talk, load, 0.0) for _ in range(2)]
    sessions.end(twice[0], 0.0)
    talk.answered()
    following = begin(sessions, talk, load, 1.0)
    for booking in (twice[1], following, following):
        sessions.end(booking, 2.0)
    found = sessions.find(talk.prompt)
    assert found is not None and found.running == 0


def test_what_others_begin_with_too_counts_once() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    begin(sessions, talk, load, 0.0, cached_tokens=600)
    found = sessions.find(talk.prompt)
    assert found is not None and found.tokens == 400


def test_a_full_cache_lets_go_of_the_one_that_has_waited_longest_for_its_tool() -> None:
    sessions, load = Sessions(), replica()
    running = Conversation(1, 10_000)
    turn(sessions, running, load, 0.0)
    begin(sessions, running, load, 0.0)
    large, small = session(sessions, 2, 40_000, load, 1.0), session(sessions, 3, 10_000, load, 2.0)
    newest = session(sessions, 4, 20_000, load, 3.0)
    assert [is_member(sessions, one) for one in (large, small, newest)] == [False, True, True]
    found = sessions.find(running.prompt)
    assert found is not None and found.load is load


def test_one_whose_next_turn_waits_is_not_let_go_of() -> None:
    sessions, load = Sessions(), replica()
    first, second = session(sessions, 1, 30_000, load, 0.0), session(sessions, 2, 30_000, load, 1.0)
    found = sessions.find(first.prompt)
    assert found is not None
    sessions.expect(found)
    session(sessions, 3, 30_000, load, 20.0)
    assert is_member(sessions, first) and not is_member(sessions, second)
    sessions.give_up(found, 20.0)
    session(sessions, 4, 40_000, load, 21.0)
    assert not is_member(sessions, first)


def test_a_turn_without_the_end_of_the_prompt_before_is_of_the_same_session() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    turn(sessions, talk, load, 0.0)
    earlier = talk.prompt
    turn(sessions, talk, load, 1.0)
    known = len(earlier.hashes) + 1
    changed = Prefix(
        [*talk.prompt.hashes[:known], 7, 8, 9],
        [*talk.prompt.ends_tokens[:known], 5000, 6000, 7000],
        7000,
        answer=(known + 1, known + 2),
    )
    found = sessions.find(changed)
    assert found is not None and found is sessions.find(earlier)


def test_a_first_turn_is_of_no_session_though_it_begins_like_one() -> None:
    sessions, load, talk = Sessions(), replica(), Conversation(1, 1000)
    turn(sessions, talk, load, 0.0)
    begins_alike = Prefix([*talk.prompt.hashes[:1], 7], [1000, 2000], 2000)
    assert sessions.find(begins_alike) is None


def test_a_paused_session_is_admitted_where_there_is_room() -> None:
    sessions, full, other = Sessions(), replica("a"), replica("b")
    paused = session(sessions, 1, 10_000, full, 0.0)
    session(sessions, 2, 75_000, full, 0.0)
    session(sessions, 3, 40_000, other, 0.0)
    found = sessions.find(paused.prompt)
    assert found is not None and found.load is None
    assert sessions.room_for(found, 12_000, [full], 1.0) is None
    assert sessions.room_for(found, 12_000, [full, other], 1.0) is other
    sessions.admit(found, 12_000, other, 1.0)
    assert is_member(sessions, paused)


def test_it_takes_the_place_of_those_that_are_overdue() -> None:
    sessions, load = Sessions(), replica()
    paused = session(sessions, 1, 10_000, load, 0.0)
    overdue = session(sessions, 2, 75_000, load, 0.0)
    found = sessions.find(paused.prompt)
    assert found is not None
    assert sessions.room_for(found, 12_000, [load], 6.0) is None
    assert sessions.room_for(found, 12_000, [load], 8.0) is load
    sessions.admit(found, 12_000, load, 8.0)
    assert not is_member(sessions, overdue)


def test_a_paused_session_comes_back_to_where_it_was_if_there_is_room() -> None:
    sessions, home, other = Sessions(), replica("a"), replica("b")
    paused = session(sessions, 1, 10_000, home, 0.0)
    large = session(sessions, 2, 75_000, home, 0.0)
    found = sessions.find(paused.prompt)
    assert found is not None
    assert sessions.room_for(found, 12_000, [home, other], 1.0) is other
    moved = sessions.find(large.prompt)
    assert moved is not None
    sessions.admit(moved, 75_000, other, 1.0)
    session(sessions, 3, 60_000, home, 1.0)
    assert sessions.room_for(found, 12_000, [home, replica("c")], 1.0) is home


def test_what_main_memory_keeps_counts_as_cached() -> None:
    sessions = Sessions()
    load = ReplicaLoad("a", Capacity(100_000, 16, host_kv_cache_tokens=200_000), RATES)
    talks = [session(sessions, number, 50_000, load, 0.0) for number in range(4)]
    assert [is_member(sessions, talk) for talk in talks] == [False, True, True, True]


def test_the_sessions_of_a_replica_that_is_gone_are_paused() -> None:
    sessions, load = Sessions(), replica()
    talk = session(sessions, 1, 10_000, load, 0.0)
    sessions.end_all(load)
    assert not is_member(sessions, talk)
    turn(sessions, talk, replica("b"), 1.0)
    assert is_member(sessions, talk)


def test_conversations_that_are_over_are_forgotten() -> None:
    sessions, load = Sessions(), replica()
    talk = session(sessions, 1, 10_000, load, 0.0)
    turn(sessions, Conversation(2, 1000), load, 2000.0)
    assert sessions.find(talk.prompt) is None


def test_of_many_conversations_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.placement.sessions._MOST", 3)
    sessions, load = Sessions(), replica()
    talks = [Conversation(number, 10) for number in range(1, 6)]
    for talk in talks:
        turn(sessions, talk, load, 0.0)
    assert sessions.find(talks[0].prompt) is None
    assert sessions.find(talks[-1].prompt) is not None
