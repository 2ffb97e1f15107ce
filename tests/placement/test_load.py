import random

import pytest

from serving.placement import UNLIMITED, Booking, Capacity, Rates, ReplicaLoad
from tests.placement.works import work


def replica(capacity: Capacity = UNLIMITED) -> ReplicaLoad:
    """Returns a replica with 10 prefill tokens per ms, 20 ms of overhead, and steps of 10 ms plus 1
    ms per 1,000 tokens."""
    return ReplicaLoad("r", capacity, Rates(10_000, 20, 10, 1e-3))


def state(load: ReplicaLoad) -> tuple[int, ...]:
    return (
        load.requests,
        load.prefill_tokens,
        load.kv_tokens,
        load.context_tokens,
        load.output_tokens,
    )


IDLE = (0, 0, 0, 0, 0)


def test_a_request_is_booked_moves_to_decoding_and_is_released() -> None:
    load = replica()
    booking = load.book(work(1, 2, 3, output_tokens=50), 100, now_s=1.0)
    assert state(load) == (1, 200, 350, 350, 50)
    booking.first_token(1.5)
    assert state(load) == (1, 0, 350, 350, 50)
    booking.end(3.0)
    assert state(load) == IDLE
    assert load.booked_s == 1.0


def test_one_that_fails_before_its_first_token_releases_all() -> None:
    load = replica()
    load.book(work(1, 2), 0, now_s=0.0).end(0.1)
    assert state(load) == IDLE
    assert load.prefill_ms(0.1) == 0


def test_events_that_come_twice_or_late_count_once() -> None:
    load = replica()
    other = load.book(work(9), 0, now_s=0.0)
    booking = load.book(work(1, 2), 0, now_s=0.0)
    for _ in range(2):
        booking.first_token(0.5)
    for _ in range(2):
        booking.end(1.0)
    booking.first_token(1.5)
    assert state(load) == (1, 100, 200, 200, 100)
    other.end(2.0)
    assert state(load) == IDLE


def test_any_order_of_events_leaves_nothing_behind() -> None:
    rng, load = random.Random(5), replica(capacity=Capacity(3000, 8))
    open_bookings: list[Booking] = []
    now_s = 0.0
    for _ in range(2000):
        now_s += rng.random()
        event = rng.choice(("book", "first_token", "end"))
        if event == "book":
            asked = work(*range(rng.randrange(1, 9)), streamed=rng.random() < 0.7)
            open_bookings.append(load.book(asked, 100 * rng.randrange(9), now_s))
        elif open_bookings and event == "first_token":
            rng.choice(open_bookings).first_token(now_s)
        elif open_bookings:
            open_bookings.pop(rng.randrange(len(open_bookings))).end(now_s, rng.randrange(200))
        assert min(state(load)) >= 0
        assert load.prefill_ms(now_s) >= 0
        assert load.requests == len(open_bookings)
    for booking in open_bookings:
        booking.end(now_s)
    assert state(load) == IDLE


def test_what_the_first_prefill_has_spent_counts() -> None:
    load = replica()
    load.book(work(prompt_tokens=1000), 0, now_s=0.0)
    load.book(work(prompt_tokens=500), 0, now_s=0.05)
    assert load.prefill_ms(0.0) == pytest.approx(170)
    assert load.prefill_ms(0.1) == pytest.approx(70)
    assert load.prefill_ms(0.12) == pytest.approx(50)


def test_the_next_prefill_begins_when_the_first_is_done() -> None:
    load = replica()
    first = load.book(work(prompt_tokens=1000), 0, now_s=0.0)
    load.book(work(prompt_tokens=500), 0, now_s=0.0)
    first.first_token(0.12)
    assert load.prefill_ms(0.12) == pytest.approx(70, rel=0.01)
    assert load.prefill_ms(0.15) == pytest.approx(40, rel=0.02)


def test_a_replica_that_hangs_costs_ever_more() -> None:
    load = replica()
    load.book(work(prompt_tokens=1000), 0, now_s=0.0)
    load.book(work(prompt_tokens=500), 0, now_s=0.0)
    assert load.prefill_ms(10.12) == pytest.approx(10_050)


def test_the_prefill_of_one_that_is_not_streamed_ends_when_it_should_have() -> None:
    load = replica()
    booking = load.book(work(prompt_tokens=1000, streamed=False), 0, now_s=0.0)
    assert load.prefill_ms(0.1) == pytest.approx(20)
    assert load.prefill_ms(5.0) == 0
    assert (load.requests, load.prefill_tokens) == (1, 0)
    booking.end(9.0, output_tokens=100)
    assert state(load) == IDLE


def test_a_first_token_tells_of_those_before_it_that_are_not_streamed() -> None:
    load = replica()
    load.book(work(prompt_tokens=1000, streamed=False), 0, now_s=0.0)
    load.book(work(prompt_tokens=1000), 0, now_s=0.0).first_token(0.1)
    assert (load.requests, load.prefill_tokens) == (2, 0)


def test_the_rate_is_learnt_with_what_was_ahead() -> None:
    load = replica()
    for i in range(100):
        now_s = 100.0 * i
        bookings = [load.book(work(prompt_tokens=2000), 0, now_s) for _ in range(3)]
        for nth, booking in enumerate(bookings):
            booking.first_token(now_s + 0.02 + 0.5 * (nth + 1))
            booking.end(now_s + 10)
    assert load.rates.prefill_tokens_per_s == pytest.approx(4000, rel=0.1)


def test_only_what_ran_at_once_and_was_seen_teaches_the_rate() -> None:
    load = replica(Capacity(UNLIMITED.kv_cache_tokens, 1))
    load.book(work(prompt_tokens=1000, streamed=False), 0, now_s=0.0)
    waited = load.book(work(prompt_tokens=1000), 0, now_s=0.0)
    waited.first_token(30.0)
    waited.end(31.0, output_tokens=2)
    unlearnt = replica()
    unlearnt.book(work(prompt_tokens=1000), 0, 0.0, learn=False).first_token(30.0)
    for rates in (load.rates, unlearnt.rates):
        assert rates.prefill_tokens_per_s == pytest.approx(10_000)
        assert rates.step_ms(0) == pytest.approx(10)


def test_steps_are_learnt_from_the_context_that_decoded_meanwhile() -> None:
    load = replica()
    for i in range(200):
        now_s = 1000.0 * i
        sequences = 1 + i % 7
        step_s = (20 + 0.002 * 5_000 * sequences) / 1000
        asked = work(prompt_tokens=4_900, output_tokens=100)
        bookings = [load.book(asked, 4_900, now_s) for _ in range(sequences)]
        for booking in bookings:
            booking.first_token(now_s + 0.02)
        for booking in bookings:
            booking.end(now_s + 0.02 + 100 * step_s, output_tokens=101)
    assert load.rates.step_ms(0) == pytest.approx(20, rel=0.1)
    assert load.rates.step_ms_per_context_token == pytest.approx(2e-3, rel=0.1)


def test_the_prefill_of_others_is_not_taken_for_slow_steps() -> None:
    """A new replica's first minutes, in which answers wait for prompts most of the time."""
    load = replica()
    for i in range(100):
        now_s = 1000.0 * i
        answer = load.book(work(prompt_tokens=1000, output_tokens=100), 1000, now_s)
        answer.first_token(now_s + 0.02)
        for nth in range(1, 6):
            other = load.book(work(prompt_tokens=5000, output_tokens=1), 0, now_s + 0.5 * nth)
            other.first_token(now_s + 0.5 * nth + 0.52)
            other.end(now_s + 0.5 * nth + 0.52)
        answer.end(now_s + 0.02 + 2.5 + 100 * 0.011, output_tokens=101)
    assert load.rates.step_ms(1000) == pytest.approx(11, rel=0.15)


def test_what_requests_share_is_counted_once() -> None:
    load = replica()
    bookings = [load.book(work(1, 2, 3, output_tokens=50), 0, now_s=0.0)]
    asked = work(1, 2, 4, 5, output_tokens=50)
    assert load.kv_tokens_of(asked, 200) == 250
    bookings.append(load.book(asked, 200, now_s=0.0))
    assert (load.kv_tokens, load.context_tokens) == (600, 800)
    deeper = work(1, 2, 4, 5, 6, output_tokens=50)
    assert load.kv_tokens_of(deeper, 400) == 150, "shared with the second, not with the first"
    bookings.append(load.book(deeper, 400, now_s=0.0))
    assert load.kv_tokens == 750
    assert load.kv_tokens_of(work(7, 8, output_tokens=50), 200) == 250, "cached, but not in use"
    bookings[1].end(1.0)
    assert load.kv_tokens == 700
    bookings[0].end(1.0)
    assert load.kv_tokens == 550
    bookings[2].end(1.0)
    assert load.kv_tokens == 0


def test_headroom_is_what_the_cache_and_the_batch_have_left() -> None:
    load = replica(capacity=Capacity(1000, 2))
    asked = work(1, 2, 3, output_tokens=100)
    assert load.has_headroom(asked, 0)
    assert load.headroom_wait_ms(asked, 0) == 0
    load.book(asked, 0, now_s=0.0)
    assert load.has_headroom(asked, 0)
    assert not load.has_headroom(work(1, prompt_tokens=501), 0)
    load.book(asked, 0, now_s=0.0)
    assert not load.has_headroom(work(prompt_tokens=1, output_tokens=1), 0)


def test_headroom_comes_as_answers_end() -> None:
    load = replica(Capacity(1000, UNLIMITED.max_num_seqs))
    for _ in range(2):
        load.book(work(prompt_tokens=400, output_tokens=100), 0, now_s=0.0)
    # Half of what is running has to end; an answer of 100 steps, of 10 ms + 1 ms, takes 1.1 s.
    assert load.headroom_wait_ms(work(prompt_tokens=400, output_tokens=100), 0) == pytest.approx(
        550
    )
    assert load.headroom_wait_ms(work(prompt_tokens=900, output_tokens=100), 0) == pytest.approx(
        1100
    )


def test_a_prompt_that_never_fits_is_the_engines_to_refuse() -> None:
    load = replica(Capacity(1000, UNLIMITED.max_num_seqs))
    assert load.headroom_wait_ms(work(prompt_tokens=5000), 0) == 0


def test_context_headroom_is_what_steps_may_still_slow_down() -> None:
    load = replica()
    assert load.context_headroom_tokens(max_itl_ms=12, now_s=0.0) == pytest.approx(2000)
    load.book(work(1, 2, 3, output_tokens=200), 300, now_s=0.0)
    assert load.context_headroom_tokens(max_itl_ms=12, now_s=0.0) == pytest.approx(1500)
    assert load.context_headroom_tokens(max_itl_ms=10.1, now_s=0.0) < 0


def test_prefill_leaves_less_time_for_steps_until_it_is_past() -> None:
    load = replica()
    assert load.context_headroom_tokens(max_itl_ms=20, now_s=0.0) == pytest.approx(10_000)
    crowd = [load.book(work(prompt_tokens=9000, output_tokens=1), 0, now_s=0.0) for _ in range(40)]
    assert load.context_headroom_tokens(max_itl_ms=20, now_s=0.0) < 0, "36 s of prefill"
    for nth, booking in enumerate(crowd):
        booking.first_token(0.9 * (nth + 1))
        booking.end(0.9 * (nth + 1))
    load.book(work(prompt_tokens=1000, output_tokens=1000), 1000, now_s=36.0)
    in_the_middle = load.context_headroom_tokens(max_itl_ms=20, now_s=36.0)
    assert 0 < in_the_middle < 5000
    assert load.context_headroom_tokens(max_itl_ms=20, now_s=400.0) == pytest.approx(8000, rel=0.01)
