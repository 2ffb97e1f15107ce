"""What a client is billed for, and that billed and other tokens are all that engines counted."""

from itertools import product

import pytest

from serving.ledger.settlement import Settlement, settle
from serving.ledger.tokens import Tokens

COUNTED = Tokens(input=9, cached=4, output=5)


def engine(output: int, generated: int | None = None, input: int = 10, cached: int = 0) -> Tokens:
    return Tokens(input, cached, output, input, output if generated is None else generated)


def test_a_whole_answer_is_its_clients() -> None:
    settled = settle([engine(16, cached=8)], 0, 0, "answered", COUNTED)
    assert settled == Settlement(10, 8, 16, 0, 0, False)


def test_tokens_behind_a_stop_string_are_wasted() -> None:
    settled = settle([engine(16, generated=18)], 0, 0, "answered", COUNTED)
    assert (settled.output_tokens, settled.wasted_output_tokens) == (16, 2)


def test_the_prompt_of_further_choices_was_read_again() -> None:
    settled = settle([Tokens(10, 0, 32, 20, 32)], 0, 0, "answered", COUNTED)
    assert (settled.input_tokens, settled.repeated_input_tokens) == (10, 10)


def test_an_answer_after_a_failure_is_billed_once() -> None:
    settled = settle([engine(7), engine(16)], 1, 0, "answered", COUNTED)
    assert settled == Settlement(10, 0, 16, 10, 7, False)


def test_a_continued_answer_is_its_parts_together() -> None:
    attempts = [engine(5, cached=3), engine(11, input=15)]
    assert settle(attempts, 0, 5, "answered", COUNTED) == Settlement(10, 3, 16, 15, 0, False)


def test_what_a_continuation_generates_again_is_wasted() -> None:
    settled = settle([engine(5), engine(12, input=14)], 0, 4, "answered", COUNTED)
    assert (settled.output_tokens, settled.wasted_output_tokens) == (16, 1)


def test_of_a_dead_engine_what_its_successor_was_given_counts() -> None:
    settled = settle([None, engine(11, input=15)], 0, 5, "answered", COUNTED)
    assert settled == Settlement(9, 4, 16, 15, 0, True)


def test_without_an_engines_counts_the_routers_own_are_taken() -> None:
    assert settle([None], 0, 0, "broken", COUNTED) == Settlement(9, 4, 5, 0, 0, True)


@pytest.mark.parametrize("outcome", ["replicas_failed", "invalid", "internal_error"])
def test_an_answer_that_failed_is_billed_to_nobody(outcome: str) -> None:
    assert settle([engine(7)], 0, 0, outcome, COUNTED) == Settlement(0, 0, 0, 10, 7, False)


@pytest.mark.parametrize("outcome", ["answered", "client_gone", "broken", "replicas_failed"])
def test_the_sum_is_always_what_the_engines_counted(outcome: str) -> None:
    counts = [engine(0, 0, 0), engine(3), engine(3, 5), engine(9, 9, 13)]
    for attempts in product(counts, repeat=3):
        for answering, carried in product(range(3), (0, 3, 8)):
            settled = settle(attempts, answering, carried, outcome, COUNTED)
            read = settled.input_tokens + settled.repeated_input_tokens
            generated = settled.output_tokens + settled.wasted_output_tokens
            assert read == sum(one.read for one in attempts)
            assert generated == sum(one.generated for one in attempts)
            assert min(settled.wasted_output_tokens, settled.repeated_input_tokens) >= 0
