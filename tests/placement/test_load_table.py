import random

import numpy as np
import pytest

from serving.placement import Booking, Capacity, ReplicaLoad
from serving.placement.load_table import Column, Loads, LoadTable, columns_of
from tests.placement.works import work


def loads_of(count: int) -> list[ReplicaLoad]:
    return [ReplicaLoad(f"r{i}", Capacity(50_000, 6)) for i in range(count)]


def test_a_table_has_what_is_booked() -> None:
    (load,) = loads_of(1)
    for _ in range(3):
        load.book(work(prompt_tokens=1000, output_tokens=100), 200, now_s=2.0)
    load.book(work(prompt_tokens=500), 0, now_s=3.0).first_token(3.5)
    column = dict(zip(Column, columns_of([load])[:, 0], strict=True))
    assert column[Column.REQUESTS] == 4
    assert column[Column.CONTEXT_TOKENS] == 3 * 1100 + 600
    assert column[Column.FREE_KV_TOKENS] == 50_000 - load.kv_tokens
    assert column[Column.BOOKED_S] == 3.0
    assert column[Column.WAITS] == 1
    assert column[Column.BEHIND_MS] == 2 * 800 * load.rates.prefill_ms_per_token
    assert column[Column.FIRST_MS] == pytest.approx(load.rates.first_token_ms(800))
    assert column[Column.FIRST_BEGAN_S] == 2.0


def test_a_full_batch_has_no_headroom() -> None:
    (load,) = loads_of(1)
    for _ in range(6):
        load.book(work(prompt_tokens=10), 0, now_s=0.0)
    assert columns_of([load])[Column.FREE_KV_TOKENS, 0] == -1


@pytest.mark.parametrize("slots", [list(range(12)), [7, 3, 11]])
def test_what_is_noted_is_what_a_new_look_would_find(slots: list[int]) -> None:
    rng = random.Random(1)
    table = LoadTable()
    every = loads_of(12)
    for slot, load in enumerate(every):
        table.note(slot, load)
    chosen = Loads([every[slot] for slot in slots], table, slots)
    bookings: list[tuple[int, Booking]] = []
    for step in range(400):
        now_s = step / 100
        slot = rng.randrange(12)
        event = rng.random()
        if event < 0.4:
            asked = work(prompt_tokens=rng.randint(1, 3000), streamed=rng.random() < 0.8)
            bookings.append((slot, every[slot].book(asked, 0, now_s)))
        elif bookings:
            slot, booking = bookings.pop(rng.randrange(len(bookings)))
            booking.first_token(now_s)
            if event < 0.7:
                bookings.append((slot, booking))
            else:
                booking.end(now_s, 50)
        table.note(slot, every[slot])
        assert np.array_equal(chosen.columns, columns_of(list(chosen)))


def test_what_is_forgotten_leaves_its_slot_to_the_next() -> None:
    table = LoadTable()
    old, new = loads_of(2)
    old.book(work(prompt_tokens=700, streamed=False), 0, now_s=0.0)
    table.note(0, old)
    assert table.columns([0])[Column.REQUESTS] == [1]
    table.forget(0)
    table.note(0, new)
    assert table.columns([0])[Column.REQUESTS] == [0]
    assert table.columns([0])[Column.REQUESTS] == [0]
