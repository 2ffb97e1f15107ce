from serving.dispatch import Request, Reservation
from serving.dispatch.offered_load import OfferedLoad
from tests.dispatch.setting import work


def reservation() -> Reservation:
    return Reservation(Request(work(500)), 1, 0.5, 0.0, 0.0, 9.0)


def waiting(load: OfferedLoad) -> tuple[int, int, int]:
    return load.waiting_requests, load.waiting_kv_tokens, load.waiting_prefill_tokens


def test_one_that_is_placed_at_once_counts_and_does_not_wait() -> None:
    load, placed = OfferedLoad(), reservation()
    load.waits_no_more(placed)
    load.count(placed, 300)
    assert load.prefill_tokens == 300
    assert waiting(load) == (0, 0, 0)


def test_one_that_waits_counts_once() -> None:
    load, waits = OfferedLoad(), reservation()
    load.wait(waits, 300)
    assert load.prefill_tokens == 300
    assert waiting(load) == (1, 500, 300)
    load.count(waits, 200)
    load.waits_no_more(waits)
    load.waits_no_more(waits)
    assert load.prefill_tokens == 300
    assert waiting(load) == (0, 0, 0)


def test_one_that_comes_back_has_been_counted() -> None:
    load, returns = OfferedLoad(), reservation()
    returns.is_counted = True
    load.wait(returns, 300)
    assert load.prefill_tokens == 0
    assert waiting(load) == (1, 500, 300)
