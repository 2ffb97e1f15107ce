"""Turns of sessions wait while other sessions fill the caches."""

import pytest

from serving.dispatch import Outcome, Request, Reservation, State
from serving.dispatch.working_set import LONGEST_PAUSE_S
from serving.placement import Work
from tests.dispatch.setting import Setting
from tests.placement.conversation import Conversation

SLOW_S = 10.0
"""A replica's prefill time for 100 tokens: no session is overdue for as long as these tests run."""


@pytest.fixture(autouse=True)
def room_for_800_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cache of 1,000."""
    monkeypatch.setattr("serving.placement.sessions._KEPT", 0.8)


def submit(
    setting: Setting,
    talk: Conversation,
    timeout_s: float | None = None,
    tenant: str = "",
    weight: float = 1.0,
) -> Reservation:
    work = Work(talk.prompt, talk.prompt.tokens, 0)
    request = Request(work, timeout_s=timeout_s, tenant=tenant, weight=weight)
    reservation = setting.dispatcher.submit(request, setting.now_s)
    assert isinstance(reservation, Reservation)
    return reservation


def turn(setting: Setting, talk: Conversation, tenant: str = "") -> None:
    reservation = submit(setting, talk, tenant=tenant)
    assert setting.place() == [reservation]
    answer(setting, talk, reservation)


def answer(setting: Setting, talk: Conversation, reservation: Reservation) -> list[Reservation]:
    talk.answered()
    setting.now_s += 0.1
    setting.dispatcher.release(reservation, Outcome.SERVED, setting.now_s)
    return setting.place()


def session(setting: Setting, number: int, tokens: int, tenant: str = "") -> Conversation:
    """A session of `tokens`, whose two turns were answered and whose next ones are short."""
    talk = Conversation(number, tokens // 2)
    turn(setting, talk, tenant)
    talk.tokens = 1
    turn(setting, talk, tenant)
    return talk


def test_a_turn_that_would_evict_others_waits_until_they_are_over() -> None:
    setting = Setting(service_s=SLOW_S)
    others = [session(setting, number, 380) for number in (1, 2)]
    late = Conversation(3, 200)
    turn(setting, late)
    paused = submit(setting, late)
    assert setting.place() == [] and paused.state is State.WAITING
    assert setting.dispatcher.waiting == 1
    for other in others:
        turn(setting, other)
    assert paused.state is State.WAITING
    setting.now_s += 1000 / 100 * SLOW_S + 1  # the others' tools take too long
    assert setting.place() == [paused]


def beside_a_full_replica() -> tuple[Setting, Reservation, Reservation]:
    """Returns a turn that waits for headroom, and one that waits for the room of its session."""
    setting = Setting(service_s=SLOW_S, max_wait_s=1000)
    member, late = session(setting, 1, 760), Conversation(2, 200)
    turn(setting, late)
    setting.book(0, 1000)
    waits, paused = submit(setting, member), submit(setting, late)
    assert setting.place() == []
    return setting, waits, paused


def test_a_session_whose_turn_waits_for_headroom_keeps_its_room() -> None:
    setting, waits, paused = beside_a_full_replica()
    setting.now_s += 1000 / 100 * SLOW_S + 1  # as long as a tool may take
    setting.unbook(0)
    assert setting.place() == [waits] and paused.room is None


def test_a_session_whose_client_left_gives_up_its_room() -> None:
    setting, waits, paused = beside_a_full_replica()
    setting.dispatcher.withdraw(waits, setting.now_s)
    setting.now_s += 1000 / 100 * SLOW_S + 1
    setting.unbook(0)
    assert setting.place() == [paused]


def test_turns_of_sessions_that_are_cached_pass() -> None:
    setting = Setting(service_s=SLOW_S)
    talks = [session(setting, number, 300) for number in (1, 2)]
    for _ in range(3):
        for talk in talks:
            turn(setting, talk)


def test_first_turns_pass() -> None:
    setting = Setting(service_s=SLOW_S)
    for number in (1, 2):
        session(setting, number, 390)
    turn(setting, Conversation(3, 200))


def test_requests_that_nothing_continues_never_wait_for_room() -> None:
    setting = Setting(service_s=SLOW_S)
    for number in range(20):
        turn(setting, Conversation(number, 300))


def test_no_turn_waits_for_longer_than_the_longest_pause() -> None:
    setting = Setting(service_s=1000.0)
    for number in (1, 2):
        session(setting, number, 390)
    late = Conversation(3, 200)
    turn(setting, late)
    paused = submit(setting, late)
    setting.now_s += LONGEST_PAUSE_S - 1
    assert setting.place() == []
    setting.now_s += 1
    assert setting.place() == [paused]


def test_a_client_that_waits_for_less_has_its_turn_before_that() -> None:
    setting = Setting(service_s=1000.0)
    for number in (1, 2):
        session(setting, number, 390)
    late = Conversation(3, 200)
    turn(setting, late)
    setting.dispatcher.withdraw(submit(setting, late, timeout_s=100_000), setting.now_s)
    assert setting.dispatcher.waiting == 0


def test_the_session_with_the_fewest_turns_for_its_time_is_the_first_to_have_room() -> None:
    setting = Setting(service_s=SLOW_S)
    quick, slow = session(setting, 1, 300), Conversation(2, 300)
    turn(setting, slow)
    other = session(setting, 3, 480)
    other.tokens = 100
    turn(setting, other)
    turn(setting, other)  # which takes the place of the smaller one
    setting.now_s += 10
    second, first = submit(setting, quick), submit(setting, slow)
    assert setting.place() == []
    setting.now_s += 1000 / 100 * SLOW_S + 1  # the other's tool takes too long
    assert setting.place() == [first]
    assert second.state is State.WAITING


def test_a_turn_that_has_waited_is_placed_where_there_is_room() -> None:
    setting = Setting(2, service_s=SLOW_S)
    late = Conversation(9, 60)
    turn(setting, late)
    setting.update(setting.ids[:1])
    session(setting, 1, 780)
    paused = submit(setting, late)
    assert setting.place() == []
    setting.now_s += 1
    setting.update(setting.ids)
    assert setting.place() == [paused]
    assert paused.tried == ["replica-1"]


def test_a_prompt_that_is_sent_again_goes_where_it_is_cached() -> None:
    setting = Setting(2, service_s=SLOW_S)
    setting.policy.choices[None] = lambda ids, now_s: ids[-1]
    again = Conversation(1, 100)
    for _ in range(3):
        reservation = submit(setting, again)
        assert setting.place() == [reservation] and reservation.replica_id == "replica-1"
        setting.dispatcher.release(reservation, Outcome.SERVED, setting.now_s)


def test_when_too_many_turns_wait_further_ones_pass() -> None:
    setting = Setting(service_s=1000.0, max_waiting=1)
    for number in (1, 2):
        session(setting, number, 390)
    late = [Conversation(number, 50) for number in (3, 4)]
    for talk in late:
        turn(setting, talk)
    paused, passes = (submit(setting, talk) for talk in late)
    assert setting.place() == [passes]
    assert paused.state is State.WAITING


def test_a_tenant_with_less_than_its_share_takes_the_place_of_others() -> None:
    setting = Setting(service_s=SLOW_S)
    others = [session(setting, number, 190, "many") for number in (1, 2, 3, 4)]
    turn(setting, late := Conversation(5, 80), "few")
    turn(setting, late, "few")
    paused = submit(setting, others[0], tenant="many")  # the longest idle
    assert setting.place() == [] and paused.state is State.WAITING
    for other in others[1:]:
        turn(setting, other, "many")


def test_a_tenant_with_more_than_its_share_takes_the_place_of_none() -> None:
    setting = Setting(service_s=SLOW_S)
    for number, tenant in enumerate(("many", "many", "many", "few")):
        session(setting, number, 190, tenant)
    turn(setting, late := Conversation(4, 50), "many")
    submit(setting, late, tenant="many")
    assert setting.place() == []


def test_a_turn_that_has_waited_for_too_long_takes_the_place_of_its_own_tenant() -> None:
    setting = Setting(service_s=SLOW_S)
    few, many = session(setting, 1, 380, "few"), session(setting, 2, 380, "many")
    turn(setting, late := Conversation(3, 150), "many")
    paused = submit(setting, late, timeout_s=100, tenant="many")
    assert setting.place() == []
    setting.now_s += 50
    assert setting.place() == [paused]
    assert answer(setting, late, paused) == []
    turn(setting, few, "few")
    submit(setting, many, tenant="many")
    assert setting.place() == []


def test_a_share_is_by_weight() -> None:
    setting = Setting(service_s=SLOW_S)
    for number in (1, 2, 3):
        session(setting, number, 250, "many")
    late = [Conversation(number, 110) for number in (4, 5)]
    for talk in late:
        turn(setting, talk, "few")
    paused = submit(setting, late[0], tenant="few", weight=0.2)
    assert setting.place() == []
    setting.dispatcher.withdraw(paused, setting.now_s)
    first = submit(setting, late[1], tenant="few", weight=1.0)
    assert setting.place() == [first]


def test_the_tenant_with_the_least_of_the_caches_is_the_first_to_have_room() -> None:
    setting = Setting(service_s=SLOW_S)
    session(setting, 1, 480, "many")
    other = session(setting, 2, 300, "few")
    late = {tenant: Conversation(at, 150) for at, tenant in enumerate(("many", "few"), start=3)}
    for tenant, talk in late.items():
        turn(setting, talk, tenant)
    setting.now_s += 1000 / 100 * SLOW_S / 2
    turn(setting, other, "few")
    second, first = (submit(setting, talk, tenant=tenant) for tenant, talk in late.items())
    assert setting.place() == []
    setting.now_s += 1000 / 100 * SLOW_S / 2  # the tool of the large one takes too long
    assert setting.place() == [first]
    assert answer(setting, late["few"], first) == [] and second.state is State.WAITING
