"""Sessions are known by their prompts, and leave a full cache in a fixed order."""

import pytest

from serving.placement import Booking, Capacity, Rates, ReplicaLoad, Sessions, Work
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


def test_a_full_cache_lets_go_of_the_smallest_that_waits_for_its_tool() -> None:
    sessions, load = Sessions(), replica()
    large, small = session(sessions, 1, 40_000, load, 0.0), session(sessions, 2, 10_000, load, 0.0)
    running = Conversation(3, 10_000)
    turn(sessions, running, load, 0.0)
    begin(sessions, running, load, 1.0)
    newest = session(sessions, 4, 20_000, load, 1.0)
    assert [is_member(sessions, one) for one in (large, small, newest)] == [True, False, True]
    found = sessions.find(running.prompt)
    assert found is not None and found.load is load


def test_one_that_waits_for_longer_than_its_cache_takes_to_fill_goes_first() -> None:
    sessions, load = Sessions(), replica()
    large = session(sessions, 1, 40_000, load, 0.0)
    small = session(sessions, 2, 20_000, load, 9.0)
    session(sessions, 3, 30_000, load, 11.0)
    assert not is_member(sessions, large)
    assert is_member(sessions, small)


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
    assert sessions.room_for(found, 12_000, [load], 9.0) is None
    assert sessions.room_for(found, 12_000, [load], 11.0) is load
    sessions.admit(found, 12_000, load, 11.0)
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
