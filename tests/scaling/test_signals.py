from serving.scaling.signals import readings
from tests.scaling.fleet import observed


def test_each_demand_has_what_a_replica_is_to_take_of_it() -> None:
    seen = observed(
        offered_prefill_tokens_per_s=5_000,
        running_kv_tokens=50_000,
        running_requests=20,
    )
    assert [(one.signal, one.demand, one.target) for one in readings(seen, 0.5, 60)] == [
        ("prefill", 5_000, 5_000),
        ("kv_cache", 50_000, 80_000),
        ("batch", 20, 160),
    ]


def test_who_waits_takes_a_place_for_as_long_as_it_stays() -> None:
    seen = observed(waiting_kv_tokens=60_000, waiting_requests=60, residence_time_s=10)
    assert [one.demand for one in readings(seen, 0.8, 60)] == [0, 10_000, 10]
    assert [one.demand for one in readings(seen, 0.8, 5)] == [0, 60_000, 60]
