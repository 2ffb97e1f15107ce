"""Dispatchers that publish their bookings to each other, encoded as bytes."""

import random
from collections.abc import Callable

import msgspec

from serving.dispatch import Dispatcher, Limits, Message, Outcome, Request, Reservation
from serving.dispatch.messages import FirstToken, Placed, Released
from serving.placement import Capacity, LeastCost, Work
from tests.placement.works import work

CAPACITY = Capacity(145_000, 256)
REPLICAS = ("a", "b", "c")
_decode: Callable[[bytes], Message] = msgspec.msgpack.Decoder(Message).decode


def dispatcher() -> Dispatcher:
    made = Dispatcher(LeastCost(), CAPACITY, Limits(100, 30, 60), now_s=0)
    made.update(dict.fromkeys(REPLICAS, CAPACITY), 0)
    return made


def place(router: Dispatcher, *blocks: int, now_s: float = 0.0) -> Reservation:
    reservation = router.submit(Request(work(*blocks)), now_s)
    assert isinstance(reservation, Reservation)
    assert router.poll(now_s) == [reservation]
    return reservation


def cached_tokens(router: Dispatcher, prompt: Work, replica_id: str) -> int:
    return router.fleet.choose(prompt, [router.fleet.loads[replica_id]], 0.0)[1]


def known(router: Dispatcher) -> list[tuple[object, ...]]:
    """Returns the state that decisions depend on: the whole ledger, and the index for some
    prompts."""
    prompts = [work(i, i + 1, i + 2) for i in range(0, 60, 3)]
    cached = [cached_tokens(router, p, replica_id) for p in prompts for replica_id in REPLICAS]
    ledger = [
        (load.requests, load.prefill_tokens, load.kv_tokens, load.output_tokens)
        for load in router.fleet.loads.values()
    ]
    return [*ledger, tuple(cached)]


def requests(router: Dispatcher) -> int:
    return sum(load.requests for load in router.fleet.loads.values())


def test_routers_that_publish_to_each_other_know_the_same() -> None:
    rng = random.Random(4)
    routers = {"one": dispatcher(), "two": dispatcher()}
    now_s = 0.0

    def listen(name: str, other: Dispatcher) -> None:
        def publish(message: Message) -> None:
            other.sync.receive(name, [_decode(msgspec.msgpack.encode(message))], now_s)

        routers[name].sync.publish = publish

    listen("one", routers["two"])
    listen("two", routers["one"])
    running: dict[str, list[Reservation]] = {"one": [], "two": []}
    for step in range(400):
        name, now_s = rng.choice(("one", "two")), 0.05 * step
        router, own = routers[name], running[name]
        if len(own) < 4 or rng.random() < 0.4:
            start = 3 * rng.randrange(20)
            own.append(place(router, *range(start, start + rng.randrange(1, 6)), now_s=now_s))
        elif rng.random() < 0.4:
            router.first_token(rng.choice(own), now_s)
        elif rng.random() < 0.3:
            router.move(rng.choice(own), now_s)
        else:
            reservation = own.pop(rng.randrange(len(own)))
            router.release(reservation, Outcome.SERVED, now_s, rng.choice((0, 80)))
    assert known(routers["one"]) == known(routers["two"])
    assert requests(routers["one"]) == sum(len(own) for own in running.values())
    for name, own in running.items():
        for reservation in own:
            routers[name].release(reservation, Outcome.FAILED, 99.0)
    for router in routers.values():
        assert all(load.requests == load.kv_tokens == 0 for load in router.fleet.loads.values())


def test_a_late_router_receives_what_is_unfinished() -> None:
    one, late = dispatcher(), dispatcher()
    first, second, over = place(one, 1, 2), place(one, 7), place(one, 9)
    one.first_token(first, 0.1)
    one.release(over, Outcome.SERVED, 0.2)
    late.sync.receive("one", one.sync.snapshot(), 1.0)
    ledger = [(load.requests, load.prefill_tokens) for load in one.fleet.loads.values()]
    assert [(load.requests, load.prefill_tokens) for load in late.fleet.loads.values()] == ledger
    late.sync.receive("one", [Released(first.number), Released(second.number)], 2.0)
    assert requests(late) == 0


def test_a_router_that_goes_takes_its_requests_along() -> None:
    router, other = dispatcher(), dispatcher()
    place(router, 1)
    for i in range(5):
        place(other, 10 * i)
    router.sync.receive("other", other.sync.snapshot(), 0.0)
    assert requests(router) == 6
    router.sync.forget("other", 1.0)
    assert requests(router) == 1
    router.sync.forget("unknown", 1.0)


def test_messages_about_what_is_not_known_are_ignored() -> None:
    router = dispatcher()
    early = Placed(1, "new", [1], [100], None, 100, 100, 0)
    router.sync.receive("other", [early, FirstToken(1), Released(1, 10), Released(99)], 0.0)
    assert requests(router) == 0


def test_the_demand_is_what_requests_hold_and_wait_for() -> None:
    router, messages = dispatcher(), list[Message]()
    router.sync.publish = messages.append
    place(router, 1)
    router.update({}, 0.0)
    router.submit(Request(work(1, 2)), 0.0)
    messages.clear()
    router.sync.publish_demand(0.0)
    assert [(one.booked, one.waiting) for one in messages] == [(1 / 256, 1 / 256)]  # type: ignore[union-attr]
