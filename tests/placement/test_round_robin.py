import pytest

from serving.placement import ReplicaLoad, RoundRobin
from tests.placement.works import work


def test_each_in_turn() -> None:
    policy, loads = RoundRobin(), [ReplicaLoad() for _ in range(3)]
    placed = [policy.choose(work(1), loads, [0] * 3, 0.0) for _ in range(7)]
    assert placed == [0, 1, 2, 0, 1, 2, 0]


def test_the_turn_goes_on_when_replicas_come_and_go() -> None:
    policy, loads = RoundRobin(), [ReplicaLoad() for _ in range(3)]
    placed = [policy.choose(work(1), loads[:count], [0] * count, 0.0) for count in (3, 3, 2, 1, 3)]
    assert placed == [0, 1, 0, 0, 1]
    with pytest.raises(ValueError):
        policy.choose(work(1), [], [], 0.0)
