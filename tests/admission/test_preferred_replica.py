"""Which replica a request waits for in a full fleet."""

from collections.abc import Callable, Sequence

from serving.admission import Ticket
from tests.admission.fleet import Load
from tests.admission.setting import Replica, Setting, churn


def home(setting: Setting, number: int) -> Callable[[Sequence[Replica], float], int]:
    """Placement prefers this one as long as it is up, else the first."""
    at = setting.replicas[number]
    return lambda replicas, now_s: replicas.index(at) if at in replicas else 0


def on(setting: Setting, number: int, running: list[Ticket]) -> list[Ticket]:
    return [ticket for ticket in running if setting.where[ticket] is setting.replicas[number]]


def test_in_a_full_fleet_a_request_waits_for_the_replica_that_placement_prefers() -> None:
    setting = Setting(3)
    running = setting.fill(30)
    first = setting.offer(choose=home(setting, 1))
    second = setting.offer(choose=home(setting, 0))
    here, there = on(setting, 0, running), on(setting, 1, running)
    assert setting.end(here[0]) == [second], "who came later passes the one who waits for another"
    assert setting.end(here[1]) == [], "there is room, but the first has no use for it"
    assert setting.end(there[0]) == [first]
    assert setting.where[first] is setting.replicas[1]


def test_where_all_have_room_the_caller_chooses() -> None:
    setting = Setting(2)
    setting.offer(choose=home(setting, 1))
    handed = setting.admission.next(0)
    assert handed is not None
    assert handed[1] is setting.admission.replicas


def test_the_first_of_the_line_is_asked_anew_where_it_would_go() -> None:
    setting = Setting(3)
    running = setting.fill(30)
    preferred = [1]
    ticket = setting.offer(choose=lambda replicas, now_s: preferred[0])
    here = on(setting, 0, running)
    assert setting.end(here[0]) == []
    preferred[0] = 0
    assert setting.place() == [ticket]
    assert setting.where[ticket] is setting.replicas[0]


def test_those_behind_the_first_are_asked_anew_when_their_replica_has_room() -> None:
    setting = Setting(3)
    running = setting.fill(30)
    setting.offer(choose=home(setting, 2))
    asked: list[float] = []

    def choose(replicas: Sequence[Replica], now_s: float) -> int:
        asked.append(now_s)
        return 1 if now_s < 2 else 2

    behind = setting.offer(choose=choose)
    here, there = on(setting, 0, running), on(setting, 1, running)
    setting.now_s = 1
    assert setting.end(here[0]) == []
    assert setting.end(here[1]) == []
    assert asked == [1], "what it waits for has no room"
    setting.now_s = 2
    assert setting.end(there[0]) == []
    assert asked == [1, 2]
    assert behind.home is setting.replicas[2]


def test_who_waits_for_a_replica_that_goes_is_asked_anew() -> None:
    setting = Setting(3)
    running = setting.fill(30)
    ticket = setting.offer(choose=home(setting, 1))
    assert setting.end(on(setting, 0, running)[0]) == []
    setting.admission.update([setting.replicas[0], setting.replicas[2]], None, 0)
    assert setting.place() == [ticket]


def test_a_replica_that_is_kept_for_a_large_one_is_nobodys_choice() -> None:
    setting = Setting(3, max_wait_s=10_000)
    running = setting.fill(30)
    large = setting.offer(900)
    while large in setting.admission.line.front:
        churn(setting, running)
    kept = setting.admission._kept[large]
    offered: list[Sequence[Replica]] = []

    def choose(replicas: Sequence[Replica], now_s: float) -> int:
        offered.append(replicas)
        return 0

    ticket = setting.offer(choose=choose)
    others = [replica for replica in setting.replicas if replica is not kept]
    at = setting.replicas.index(others[0])
    assert setting.end(on(setting, at, list(setting.where))[0]) == [ticket]
    assert offered == [others]


def test_who_waited_long_for_one_replica_takes_another_if_hardly_any_is_full() -> None:
    setting = Setting(8, max_wait_s=30)
    setting.replicas[3].load = Load(kv_tokens=950, requests=1)
    ticket = setting.offer(choose=home(setting, 3))
    setting.now_s = 14
    assert setting.place() == []
    setting.now_s = 16
    setting.replicas[5].load = Load(kv_tokens=950, requests=1)
    assert setting.place() == [], "a fleet at its limit keeps what it has cached"
    setting.replicas[5].load = Load()
    assert setting.place() == [ticket]
