import pytest

from tests.scaling.fleet import observed


def test_starting_replicas_count() -> None:
    assert observed(2, starting=3, draining=1).replicas == 5


@pytest.mark.parametrize(
    ("values", "replicas"),
    [
        ({}, 0),
        ({"running_requests": 1, "running_kv_tokens": 10}, 1),
        ({"running_requests": 3, "running_kv_tokens": 200_001}, 3),
        ({"running_requests": 401}, 3),
        ({"waiting_requests": 1000, "waiting_kv_tokens": 1e9}, 0),
    ],
)
def test_what_runs_needs_so_many(values: dict[str, float], replicas: int) -> None:
    assert observed(9, **values).least_for_running == replicas


def test_busy_while_anything_is_to_do() -> None:
    assert not observed().busy
    assert observed(running_requests=1).busy
    assert observed(waiting_requests=1).busy
    assert observed(offered_prefill_tokens_per_s=1).busy
