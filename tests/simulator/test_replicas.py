import pytest

from serving.simulator.replicas import Replica, Replicas, replica_hours
from tests.bench.spread import spread
from tests.simulator.engines import mistral_small


def three_up() -> tuple[Replicas, list[Replica]]:
    replicas = Replicas(mistral_small())
    every = [replicas.ask(0.0) for _ in range(3)]
    for replica in every:
        replicas.come_up(replica, 0.0)
    return replicas, every


def test_a_replica_counts_from_the_decision_for_it_until_it_is_gone() -> None:
    replicas, (first, _, _) = three_up()
    late = replicas.ask(1800.0)
    cancelled = replicas.ask(1800.0)
    assert replicas.starting == [late, cancelled]
    replicas.come_up(late, 1900.0)
    replicas.cancel(cancelled, 2160.0)
    replicas.drain(first, 900.0)
    assert (len(replicas.up), replicas.starting, replicas.draining) == (3, [], 0)
    assert replica_hours(replicas.all, 3600.0) == pytest.approx(0.25 + 1 + 1 + 0.5 + 0.1)


def test_a_replica_drains_until_its_last_request_ends() -> None:
    replicas, (first, _, _) = three_up()
    first.users = 2
    replicas.drain(first, 10.0)
    assert replicas.draining == 1
    replicas.remove_user(first, 11.0)
    assert replicas.draining == 1
    replicas.remove_user(first, 12.0)
    assert replicas.draining == 0
    assert first.gone_s == 12.0


def test_the_spread_is_that_of_the_requests_on_each_replica() -> None:
    assert spread([]) == spread([0, 0, 0]) == 0.0
    assert spread([4, 1, 7]) == pytest.approx(6**0.5 / 4)
    assert spread([4, 6]) == pytest.approx(1 / 5)
