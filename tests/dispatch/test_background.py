"""Background work beside interactive requests."""

import pytest
from msgspec.structs import replace

from serving.dispatch import Request, Reservation, State
from serving.dispatch.messages import Placed
from serving.placement import UNLIMITED
from tests.dispatch.setting import Setting, work


def offer(setting: Setting, kv_tokens: int = 10) -> Reservation:
    request = Request(replace(work(kv_tokens), background=True, streamed=False))
    outcome = setting.dispatcher.submit(request, setting.now_s)
    assert isinstance(outcome, Reservation)
    return outcome


def placed(setting: Setting, reservations: list[Reservation]) -> int:
    """Lets time pass in which all prompts are read, and returns how many were placed."""
    for _ in range(100):
        setting.now_s += 1
        setting.place()
    return sum(one.state is State.PLACED for one in reservations)


def test_it_is_placed_up_to_a_reserve_and_is_never_refused() -> None:
    setting = Setting(2, max_waiting=0)
    waiting = [offer(setting, 100) for _ in range(40)]
    assert placed(setting, waiting) == 2 * 7, "each replica keeps a reserve"
    assert setting.dispatcher.waiting == 0
    setting.now_s += 1e6
    setting.place()
    assert not setting.expired


def test_no_interactive_request_waits_for_it() -> None:
    setting = Setting(1)
    background = [offer(setting, 100) for _ in range(40)]
    placed(setting, background)
    in_reserve = [setting.offer(100) for _ in range(3)]
    assert setting.place() == in_reserve
    waiting = setting.offer(100)
    assert setting.place() == []
    assert setting.end(background[0]) == [waiting]
    for one in background[1:7]:
        setting.end(one)
    assert placed(setting, background) == 0, "their prompts are being read"
    for one in (*in_reserve, waiting):
        setting.dispatcher.first_token(one, setting.now_s)
    assert placed(setting, background) == 2, "the load of the others varies, so that more is kept"


def test_most_of_the_replicas_are_left_to_interactive_requests() -> None:
    setting = Setting(6)
    interactive = setting.offer(100)
    assert setting.place() == [interactive]
    setting.dispatcher.first_token(interactive, setting.now_s)
    waiting = [offer(setting, 100) for _ in range(40)]
    assert placed(setting, waiting) == 2 * 10
    assert [setting.load(replica).background_requests for replica in range(6)] == [
        0,
        10,
        10,
        0,
        0,
        0,
    ]


def test_interactive_requests_that_come_again_find_their_room() -> None:
    """The fleet is half full of them for a while, then empty; what they had stays free."""
    setting = Setting(1)
    background: list[Reservation] = []
    for _ in range(20):
        running = [setting.offer(100) for _ in range(5)]
        setting.place()
        background.append(offer(setting, 10))
        setting.now_s += 10
        for one in running:
            setting.end(one)
        setting.now_s += 10
        setting.place()
    for one in background:
        if one.state is State.PLACED:
            setting.end(one)
    many = [offer(setting, 100) for _ in range(40)]
    for _ in range(20):
        setting.now_s += 1
        setting.place()
    assert 1 <= sum(one.state is State.PLACED for one in many) <= 4


def test_one_prompt_is_read_at_a_time() -> None:
    setting = Setting(1, service_s=10.0)
    first, second = offer(setting, 100), offer(setting, 100)
    setting.place()
    assert (first.state, second.state) == (State.PLACED, State.WAITING)
    due_s = setting.dispatcher.next_due_s()
    assert 9 < due_s < 11
    setting.now_s = due_s + 0.1
    assert setting.place() == [second]


def test_a_replica_of_unknown_capacity_takes_it_when_idle() -> None:
    setting = Setting(1)
    setting.dispatcher.update({"other": UNLIMITED}, 0)
    first, second = offer(setting), offer(setting)
    assert placed(setting, [first, second]) == 1
    setting.end(first)
    assert second.state is State.PLACED


def test_it_can_be_withdrawn_while_it_waits() -> None:
    setting = Setting(0)
    waiting = offer(setting)
    setting.dispatcher.withdraw(waiting, 1)
    assert waiting.state is State.WITHDRAWN
    setting.now_s = 2
    setting.update(["replica-0"])
    assert setting.place() == []


@pytest.mark.parametrize("scales", [False, True])
def test_it_counts_in_scaling_only_if_it_is_told_to(scales: bool) -> None:
    setting = Setting(1, background_scales=scales)
    for _ in range(20):
        offer(setting, 100)
    placed(setting, [])
    of_other = Placed(1, setting.ids[0], [], [], None, 10, 0, 0, streamed=False, background=True)
    setting.dispatcher.sync.receive("other", [of_other], setting.now_s)
    report = setting.dispatcher.report()
    counted = (report.running_requests, report.running_kv_tokens, report.waiting_requests)
    assert counted == ((8, 710, 13) if scales else (0, 0, 0))
    assert bool(report.offered_prefill_tokens) is scales
