from serving.scaling.arrivals import Arrivals


def waiting(arrivals: Arrivals) -> tuple[int, int, int]:
    return (
        arrivals.waiting_requests,
        arrivals.waiting_kv_tokens,
        arrivals.waiting_prefill_tokens,
    )


def test_one_that_is_placed_at_once_counts_and_does_not_wait() -> None:
    arrivals = Arrivals()
    arrival = arrivals.come(kv_tokens=500, returns=False)
    arrival.count(300)
    arrival.left()
    assert arrivals.prefill_tokens == 300
    assert waiting(arrivals) == (0, 0, 0)


def test_one_that_waits_counts_once() -> None:
    arrivals = Arrivals()
    arrival = arrivals.come(kv_tokens=500, returns=False)
    arrival.waits(300)
    assert arrivals.prefill_tokens == 300
    assert waiting(arrivals) == (1, 500, 300)
    arrival.count(200)
    arrival.left()
    arrival.left()
    assert arrivals.prefill_tokens == 300
    assert waiting(arrivals) == (0, 0, 0)


def test_one_that_comes_back_has_been_counted() -> None:
    arrivals = Arrivals()
    arrival = arrivals.come(kv_tokens=500, returns=True)
    arrival.waits(300)
    arrival.count(300)
    assert arrivals.prefill_tokens == 0
    assert waiting(arrivals) == (1, 500, 300)
