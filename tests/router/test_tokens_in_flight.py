import pytest

from serving.router.tokens_in_flight import ReplicaLoad, least_tokens


def loads(*requests_and_tokens: tuple[int, int]) -> list[ReplicaLoad]:
    return [ReplicaLoad(requests, tokens) for requests, tokens in requests_and_tokens]


def test_the_fewest_tokens_win_whatever_the_number_of_requests() -> None:
    assert least_tokens(loads((1, 900), (9, 100), (2, 500))) == 1


def test_of_equal_tokens_the_fewest_requests_win() -> None:
    assert least_tokens(loads((3, 100), (1, 100), (2, 100))) == 1


def test_of_equal_loads_the_first_wins() -> None:
    assert least_tokens(loads((1, 100), (0, 50), (0, 50))) == 1


def test_a_single_replica_is_taken_however_loaded() -> None:
    assert least_tokens(loads((100, 100_000))) == 0


def test_none_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError):
        least_tokens([])


def test_what_is_booked_counts_until_it_is_released() -> None:
    load = ReplicaLoad()
    load.book(700)
    load.book(50)
    assert load == ReplicaLoad(requests=2, tokens=750)
    load.release(700)
    assert load == ReplicaLoad(requests=1, tokens=50)
    load.release(50)
    assert load == ReplicaLoad()


def test_requests_booked_one_by_one_spread_over_idle_replicas() -> None:
    replicas = [ReplicaLoad() for _ in range(3)]
    for _ in range(9):
        replicas[least_tokens(replicas)].book(100)
    assert [load.requests for load in replicas] == [3, 3, 3]
