"""Which replica a request waits for in a full fleet."""

from serving.dispatch import Reservation
from tests.dispatch.setting import Choice, Setting, churn


def full(replicas: int, max_wait_s: float = 30) -> tuple[Setting, list[Reservation]]:
    setting = Setting(replicas, max_wait_s=max_wait_s, waits_for_choice=True)
    return setting, setting.fill(10 * replicas)


def prefers(number: int) -> Choice:
    """Returns a placement that prefers this replica while it is up, else the first."""
    preferred = f"replica-{number}"
    return lambda ids, now_s: preferred if preferred in ids else ids[0]


def on(number: int, running: list[Reservation]) -> list[Reservation]:
    return [one for one in running if one.replica_id == f"replica-{number}"]


def test_in_a_full_fleet_a_request_waits_for_the_replica_that_placement_prefers() -> None:
    setting, running = full(3)
    first = setting.offer(choice=prefers(1))
    second = setting.offer(choice=prefers(0))
    here, there = on(0, running), on(1, running)
    assert setting.end(here[0]) == [second], "who came later passes the one who waits for another"
    assert setting.end(here[1]) == [], "there is headroom, but the first has no use for it"
    assert setting.end(there[0]) == [first]
    assert first.replica_id == "replica-1"


def test_where_all_have_headroom_placement_chooses_among_all() -> None:
    setting = Setting(2, waits_for_choice=True)
    reservation = setting.offer(choice=prefers(1))
    assert setting.policy.seen == [["replica-0", "replica-1"]]
    assert reservation.replica_id == "replica-1"


def test_the_first_of_the_queue_is_asked_anew_where_it_would_go() -> None:
    setting, running = full(3)
    preferred = ["replica-1"]
    reservation = setting.offer(choice=lambda ids, now_s: preferred[0])
    assert setting.end(on(0, running)[0]) == []
    preferred[0] = "replica-0"
    setting.now_s = 1
    assert setting.place() == [reservation]
    assert reservation.replica_id == "replica-0"


def test_those_behind_the_first_are_asked_anew_when_their_replica_has_headroom() -> None:
    setting, running = full(3)
    setting.offer(choice=prefers(2))
    asked: list[float] = []

    def choice(ids: list[str], now_s: float) -> str:
        asked.append(now_s)
        return "replica-1" if now_s < 2 else "replica-2"

    here, there = on(0, running), on(1, running)
    behind = setting.offer(choice=choice)
    setting.now_s = 1
    assert setting.end(here[0]) == []
    assert setting.end(here[1]) == []
    assert asked == [1], "what it waits for has no headroom"
    setting.now_s = 2
    assert setting.end(there[0]) == []
    assert asked == [1, 2]
    assert behind.preferred is setting.load(2)


def test_who_waits_for_a_replica_that_goes_is_asked_anew() -> None:
    setting, running = full(3)
    reservation = setting.offer(choice=prefers(1))
    assert setting.end(on(0, running)[0]) == []
    setting.update(["replica-0", "replica-2"])
    assert setting.place() == [reservation]


def test_for_a_large_one_the_replica_is_held_that_it_prefers() -> None:
    setting, running = full(3, max_wait_s=10_000)
    large = setting.offer(900, choice=prefers(1))
    while large not in setting.dispatcher._queue.held:
        churn(setting, running)
    assert setting.dispatcher._queue.held[large].replica_id == "replica-1"


def test_who_prefers_a_replica_that_is_held_for_a_large_one_waits_for_it() -> None:
    setting, running = full(3, max_wait_s=10_000)
    large = setting.offer(900, choice=prefers(1))
    while large not in setting.dispatcher._queue.held:
        churn(setting, running)
    reservation = setting.offer(choice=prefers(1))
    assert reservation not in setting.end(on(0, running)[0])
    placed = [one for ended in on(1, running) for one in setting.end(ended)]
    assert [one for one in placed if one in (large, reservation)] == [large, reservation]
    assert large.replica_id == reservation.replica_id == "replica-1"


def test_a_smaller_one_overtakes_on_the_replica_that_it_prefers() -> None:
    setting, running = full(3, max_wait_s=10_000)
    setting.offer(900, choice=prefers(0))
    smaller = setting.offer(choice=prefers(1))
    assert setting.end(on(2, running)[0]) == []
    assert setting.end(on(1, running)[0]) == [smaller]
    assert smaller.replica_id == "replica-1"


def test_who_waited_long_for_one_replica_takes_another_if_hardly_any_is_full() -> None:
    setting = Setting(8, max_wait_s=30, waits_for_choice=True)
    setting.book(3, 950)
    reservation = setting.offer(choice=prefers(3))
    setting.now_s = 14
    assert setting.place() == []
    setting.now_s = 16
    setting.book(5, 950)
    assert setting.place() == [], "a fleet at its limit keeps what it has cached"
    setting.unbook(5)
    assert setting.place() == [reservation]
