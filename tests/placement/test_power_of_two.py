import pytest

from serving.placement import PowerOfTwo, ReplicaLoad
from tests.placement.works import work


def loaded(requests: int) -> ReplicaLoad:
    load = ReplicaLoad()
    for _ in range(requests):
        load.book(work(1), 0, now_s=0.0)
    return load


def test_the_most_loaded_is_never_taken_and_the_others_are() -> None:
    policy, loads = PowerOfTwo(seed=0), [loaded(5), loaded(9), loaded(1), loaded(3)]
    placed = [policy.choose(work(1), loads, [0] * 4, 0.0) for _ in range(200)]
    assert {replica: placed.count(replica) > 0 for replica in range(4)} == {
        0: True,
        1: False,
        2: True,
        3: True,
    }
    assert placed.count(2) > placed.count(3) > placed.count(0)


def test_one_replica_is_taken_and_none_is_an_error() -> None:
    assert PowerOfTwo().choose(work(1), [loaded(3)], [0], 0.0) == 0
    with pytest.raises(ValueError):
        PowerOfTwo().choose(work(1), [], [], 0.0)
