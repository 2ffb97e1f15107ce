"""The answer of all steps is what the steps add up to."""

import random

import pytest

from serving.answers.events import (
    Answer,
    Arguments,
    CallBegun,
    CallEnded,
    End,
    Event,
    Reasoning,
    Step,
    Text,
    TokenLogprob,
)

TOKEN = TokenLogprob(1, b"a", -0.5)
EVENTS: list[Event] = [
    *(Reasoning(text) for text in "think"),
    *(Text(text) for text in "Hello"),
    CallBegun("abcdefghi", "f"),
    *(Arguments(text) for text in "{}"),
    CallEnded(),
    CallBegun("ihgfedcba", "g"),
    Arguments("{"),
]


@pytest.mark.parametrize("with_logprobs", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_an_answer_is_the_sum_of_its_steps(seed: int, with_logprobs: bool) -> None:
    cuts = sorted(random.Random(seed).choices(range(len(EVENTS) + 1), k=6))
    steps = [
        Step(EVENTS[begin:end], [TOKEN] if with_logprobs else None, [begin])
        for begin, end in zip([0, *cuts], [*cuts, len(EVENTS)], strict=True)
    ]
    steps[-1].end = End("length")
    added = Answer()
    for step in steps:
        added.add(step)
    answer = Answer.of(steps)
    assert answer == added
    assert (answer.text, answer.reasoning, answer.end) == ("Hello", "think", End("length"))
    assert [call.arguments for call in answer.calls] == ["{}", "{"]
