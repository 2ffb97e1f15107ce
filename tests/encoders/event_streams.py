"""Random answers, as any parser may give them."""

import json
from itertools import pairwise

from hypothesis import strategies as st

from serving.answers.events import (
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

NAMES = ["f", "c", "ns__f", "ns__c", "elsewhere"]
TEXT = st.text(max_size=5)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_ARGUMENTS = st.dictionaries(st.text(max_size=5), _VALUES, max_size=3) | st.fixed_dictionaries(
    {"input": st.text()}
)
_TOKENS = st.lists(
    st.builds(
        TokenLogprob,
        st.integers(0, 99),
        st.binary(max_size=3),
        st.floats(-99, 0),
        st.just(()) | st.tuples(st.builds(TokenLogprob, st.just(1), st.just(b"a"), st.just(-0.5))),
    ),
    max_size=2,
)


@st.composite
def _call(draw: st.DrawFn) -> list[Event]:
    written = json.dumps(draw(_ARGUMENTS), ensure_ascii=draw(st.booleans()))
    bounds = sorted({0, len(written), *draw(st.lists(st.integers(0, len(written)), max_size=3))})
    pieces = [Arguments(written[begin:end]) for begin, end in pairwise(bounds)]
    return [CallBegun("abcdefghi", draw(st.sampled_from(NAMES))), *pieces, CallEnded()]


def _pieces(kind: type[Text] | type[Reasoning]) -> st.SearchStrategy[list[Event]]:
    return st.lists(TEXT.map(kind), min_size=1, max_size=3)


@st.composite
def answers(draw: st.DrawFn, logprobs: bool = False, ids: bool = False) -> list[Step]:
    """Texts, reasoning and calls in any order, cut into steps anywhere, and cut off anywhere if the
    answer does not end by itself."""
    parts = st.lists(_pieces(Text) | _pieces(Reasoning) | _call(), max_size=5)
    events = [event for part in draw(parts) for event in part]
    called = any(isinstance(event, CallEnded) for event in events)
    end = End("tool_calls" if called else "stop", draw(st.none() | TEXT | st.integers(0, 9)))
    if draw(st.booleans()):
        events = events[: draw(st.integers(0, len(events)))]
        end = draw(st.sampled_from([End("length"), End("stop", "x")]))
    steps = []
    while events:
        count = draw(st.integers(0, 3))
        steps.append(Step(events[:count]))
        events = events[count:]
    if not steps or draw(st.booleans()):
        steps.append(Step([]))
    steps[-1].end = end
    for step in steps:
        step.logprobs = draw(_TOKENS) if logprobs else None
        step.token_ids = draw(st.lists(st.integers(0, 9), max_size=2)) if ids else None
    return steps


@st.composite
def in_turns(draw: st.DrawFn, choices: int, logprobs: bool, ids: bool) -> list[tuple[int, Step]]:
    """The steps of several answers, as they may come beside each other."""
    left = [(index, list(draw(answers(logprobs, ids)))) for index in range(choices)]
    merged = []
    while left:
        index, steps = draw(st.sampled_from(left))
        merged.append((index, steps.pop(0)))
        left = [one for one in left if one[1]]
    return merged
