"""At most so many adapters run on a replica at a time; requests for others wait, fairly."""

import random
from typing import Any

from msgspec.structs import replace

from serving.dispatch import Request, Reservation, State
from serving.dispatch.messages import Message, Placed, Released, Turns
from tests.dispatch.setting import Setting, work


def is_within_slots(setting: Setting, max_loras: int) -> bool:
    return all(
        len(load.running_adapters) <= max_loras for load in setting.dispatcher.fleet.loads.values()
    )


def test_requests_of_as_many_adapters_as_there_are_slots_are_placed_at_once() -> None:
    setting = Setting(1, max_loras=2)
    asked = [setting.offer(adapter=name) for name in ("a", "b", "a", "", "b")]
    assert setting.place() == asked


def test_a_further_adapter_waits_and_nothing_else_does() -> None:
    setting = Setting(1, max_loras=1)
    running = setting.offer(adapter="a")
    waits = [setting.offer(adapter="b") for _ in range(90)]
    others = [setting.offer(adapter="a"), setting.offer()]
    assert setting.place() == [running, *others]
    assert all(one.state is State.WAITING for one in waits)
    setting.end(running)
    assert setting.end(others[0])[0] is waits[0]


def test_a_waiting_adapter_goes_where_a_slot_is_free() -> None:
    setting = Setting(2, max_loras=1)
    first, second = setting.offer(adapter="a"), setting.offer(adapter="b")
    third = setting.offer(adapter="c")
    assert setting.place() == [first, second]
    assert {first.replica_id, second.replica_id} == set(setting.ids)
    assert setting.end(second) == [third]
    assert third.replica_id == second.replica_id


def with_adapter_on_a_busy_replica() -> tuple[Setting, Reservation, Reservation]:
    """Returns a request of the adapter that only the first replica has, and the one that has its
    slot there. The second replica has a free slot, and needs 500 ms to load the adapter."""
    setting = Setting(2, max_loras=1)
    for replica in range(2):
        setting.load(replica).adapter_load_ms = 500.0
    setting.load(0).resident_adapters = frozenset({"a"})
    busy = setting.offer(adapter="busy")
    assert setting.place() == [busy] and busy.replica_id == setting.ids[0]
    waits = setting.offer(adapter="a")
    assert setting.place() == [] and setting.dispatcher.next_due_s() == 0.5
    return setting, waits, busy


def test_an_adapter_waits_for_a_replica_that_has_it_while_a_load_would_take_as_long() -> None:
    setting, waits, busy = with_adapter_on_a_busy_replica()
    setting.now_s = 0.4
    assert setting.end(busy) == [waits] and waits.replica_id == setting.ids[0]


def test_then_it_is_loaded_elsewhere() -> None:
    setting, waits, _ = with_adapter_on_a_busy_replica()
    setting.now_s = 0.5
    assert setting.place() == [waits] and waits.replica_id == setting.ids[1]


def test_an_adapter_that_no_replica_has_is_loaded_at_once() -> None:
    setting = Setting(2, max_loras=1)
    setting.load().adapter_load_ms = 500.0
    asked = setting.offer(adapter="a")
    assert setting.place() == [asked]


def test_the_slots_that_others_requests_take_count_too() -> None:
    setting = Setting(1, max_loras=1)
    theirs = Placed(1, setting.ids[0], [], [], None, 100, 0, 0, adapter="theirs")
    setting.dispatcher.sync.receive("other", [theirs], setting.now_s)
    ours = setting.offer(adapter="ours")
    assert setting.place() == []
    setting.dispatcher.sync.receive("other", [Released(1)], setting.now_s)
    assert setting.place() == [ours]


def test_a_busy_adapter_yields_its_slot_to_one_that_has_waited() -> None:
    setting = Setting(1, max_loras=1)
    running = setting.offer(adapter="busy")
    setting.place()
    waits = setting.offer(adapter="other")
    assert setting.dispatcher.next_due_s() == 1.0
    setting.now_s = 0.9
    early = setting.offer(adapter="busy")
    assert setting.place() == [early]
    setting.now_s = 1.0
    setting.place()
    late = setting.offer(adapter="busy")
    assert setting.place() == []
    assert setting.end(running) == []
    assert setting.end(early) == [waits]
    assert late.state is State.WAITING
    setting.now_s = 2.0
    assert setting.place() == []
    assert setting.end(waits) == [late]


def test_an_adapter_that_waits_no_more_gives_its_turn_back() -> None:
    setting = Setting(1, max_loras=1)
    setting.offer(adapter="busy")
    waits = setting.offer(adapter="other")
    setting.now_s = 1.0
    setting.place()
    setting.dispatcher.withdraw(waits, setting.now_s)
    assert setting.place() == []
    again = setting.offer(adapter="busy")
    assert setting.place() == [again]


def test_a_wait_for_a_slot_ends_with_the_longest_wait() -> None:
    setting = Setting(1, max_loras=1, max_wait_s=5)
    setting.offer(adapter="a")
    waits = setting.offer(adapter="b")
    setting.now_s = 5.0
    setting.place()
    assert setting.expired == [waits]


def test_a_batch_for_a_further_adapter_holds_up_no_other_batch() -> None:
    setting = Setting(1, max_loras=1)
    running = setting.offer(adapter="a")
    setting.place()
    setting.dispatcher.first_token(running, setting.now_s)
    batches = [_background(setting, name) for name in ("b", "a")]
    assert setting.place() == [batches[1]]
    setting.end(running)
    setting.end(batches[1])
    assert batches[0].state is State.PLACED


def _background(setting: Setting, adapter: str) -> Reservation:
    asked = replace(work(10, adapter=adapter), background=True)
    outcome = setting.dispatcher.submit(Request(asked), setting.now_s)
    assert isinstance(outcome, Reservation)
    return outcome


def test_a_moved_request_goes_where_its_adapter_may_run_if_it_can() -> None:
    setting = Setting(3, max_loras=1)
    first, _, third = (setting.offer(adapter=name) for name in ("a", "b", "c"))
    setting.place()
    setting.end(third)
    assert setting.dispatcher.move(first, setting.now_s)
    assert first.replica_id == third.replica_id


def test_a_busy_adapter_yields_to_one_that_waits_at_another_router() -> None:
    setting = Setting(1, max_loras=1)
    replica = setting.ids[0]
    running = setting.offer(adapter="busy")
    setting.place()
    setting.dispatcher.sync.receive("other", [Turns([(replica, "busy", "theirs")])], setting.now_s)
    late = setting.offer(adapter="busy")
    assert setting.place() == []
    assert setting.end(running) == []
    theirs = Placed(1, replica, [], [], None, 100, 0, 0, adapter="theirs")
    setting.dispatcher.sync.receive("other", [theirs, Turns()], setting.now_s)
    setting.dispatcher.sync.receive("other", [Released(1)], setting.now_s)
    assert setting.place() == [late]


def test_the_turns_of_a_router_that_is_gone_are_void() -> None:
    setting = Setting(1, max_loras=1)
    setting.offer(adapter="busy")
    setting.place()
    turns = Turns([(setting.ids[0], "busy", "theirs")])
    setting.dispatcher.sync.receive("other", [turns], setting.now_s)
    late = setting.offer(adapter="busy")
    assert setting.place() == []
    setting.dispatcher.sync.forget("other", setting.now_s)
    assert setting.place() == [late]


def test_several_routers_let_no_adapter_wait_for_long() -> None:
    """Three routers, of which one is asked for two adapters all the time and the others for
    others now and then, and two replicas with a slot each."""
    dice = random.Random(1)
    routers = [Setting(2, max_loras=1, max_wait_s=60) for _ in range(3)]
    for number, one in enumerate(routers):
        others = [other for other in routers if other is not one]

        def publish(message: Message, number: int = number, others: Any = others) -> None:
            for other in others:
                other.dispatcher.sync.receive(f"router-{number}", [message], other.now_s)

        one.dispatcher.sync.publish = publish
    running: list[tuple[float, Setting, Reservation]] = []
    longest_s, served = 0.0, 0
    for step in range(4000):
        now_s = step * 0.05
        for one in routers:
            one.now_s = now_s
        placed = []
        for end_s, one, reservation in running:
            if end_s <= now_s:
                placed += [(one, new) for new in one.end(reservation)]
        running = [ends for ends in running if ends[0] > now_s]
        if step < 3200:
            routers[0].submit(10, adapter=f"hot-{dice.randrange(2)}")
            if dice.random() < 0.05:
                routers[dice.randrange(1, 3)].submit(10, adapter=f"cold-{dice.randrange(4)}")
        for one in routers:
            placed += [(one, new) for new in one.place()]
            assert is_within_slots(one, 1)
            assert not [e for e in one.expired if e.request.work.adapter.startswith("cold")]
        for one, reservation in placed:
            if reservation.request.work.adapter.startswith("cold"):
                longest_s = max(longest_s, now_s - reservation.arrived_at_s)
                served += 1
            running.append((now_s + 0.5, one, reservation))
    assert served > 100
    assert not any(router.dispatcher.waiting for router in routers)
    assert longest_s < 15


def test_many_adapters_on_few_slots_are_all_served_and_none_waits_for_long() -> None:
    """Two replicas with two slots for ten adapters, one of which is asked for all the time."""
    dice, max_loras = random.Random(1), 2
    setting = Setting(2, max_loras=max_loras, max_wait_s=60)
    running: list[tuple[float, Reservation]] = []
    longest_s = 0.0
    served = set()
    for step in range(3000):
        setting.now_s = step * 0.05
        ended = [one for one in running if one[0] <= setting.now_s]
        running = [one for one in running if one[0] > setting.now_s]
        placed = [new for _, reservation in ended for new in setting.end(reservation)]
        if step < 2400 and dice.random() < 0.4:
            adapter = "hot" if dice.random() < 0.7 else f"cold-{dice.randrange(9)}"
            setting.submit(20, adapter=adapter)
        placed += setting.place()
        assert not setting.expired
        assert is_within_slots(setting, max_loras)
        for reservation in placed:
            longest_s = max(longest_s, setting.now_s - reservation.arrived_at_s)
            served.add(reservation.request.work.adapter)
            running.append((setting.now_s + 0.5, reservation))
    assert len(served) == 10
    assert not setting.dispatcher.waiting
    assert longest_s < 10
