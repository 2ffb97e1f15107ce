import json
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.answers.events import End, Event, Reasoning, Step, Text
from tests.encoders.response_streams import call, options, streamed, token, whole

_PIECES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=4)


def cut(text: str, draw: Callable[..., Any]) -> list[str]:
    bounds = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=5))})
    return [text[a:b] for a, b in pairwise(bounds)]


@st.composite
def any_call(draw: Callable[..., Any]) -> list[Event]:
    name = draw(st.sampled_from(["f", "c", "ns__f", "ns__c", "elsewhere"]))
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=10))
    arguments = json.dumps({"input": text}, ensure_ascii=draw(st.booleans()))
    return call(name, *cut(arguments, draw))


@st.composite
def answers(draw: Callable[..., Any]) -> list[Step]:
    events: list[Event] = [Reasoning(piece) for piece in draw(_PIECES)]
    for part in draw(
        st.lists(_PIECES.map(lambda texts: list(map(Text, texts))) | any_call(), max_size=4)
    ):
        events += part
    reason = draw(st.sampled_from(["stop", "tool_calls", "length"]))
    if reason == "length":
        events = events[: draw(st.integers(0, len(events)))]
    told = draw(st.booleans())
    made = []
    while events:
        count = draw(st.integers(0, 3))
        logprobs = [token(b"a")] * draw(st.integers(0, 2)) if told else None
        made.append(Step(events[:count], logprobs))
        events = events[count:]
    if made and draw(st.booleans()):
        made[-1].end = End(reason)
    else:
        made.append(Step([], [] if told else None, end=End(reason)))
    return made


@given(answers(), st.booleans())
def test_a_stream_says_what_the_whole_answer_says(made: list[Step], thoughts: bool) -> None:
    given = options(include_reasoning=thoughts)
    events = streamed(made, given)
    final = events[-1]["response"]
    assert final == whole(made, given)
    assert final["output"] == list(rebuilt(events))


def rebuilt(events: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the items as a client puts them together from the deltas; checks them on the way."""
    item: dict[str, Any] = {}
    logprobs: list[Any] = []
    text, index = "", -1
    for event in events[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            item, text, logprobs, index = event["item"], "", [], index + 1
        assert event["output_index"] == index
        assert event.get("item_id", item["id"]) == item["id"]
        if kind.endswith(".delta"):
            text += event["delta"]
            logprobs += event.get("logprobs", [])
        elif kind in ("output_text.done", "reasoning_text.done"):
            assert (event["text"], event.get("logprobs", [])) == (text, logprobs)
        elif kind.endswith("arguments.done"):
            item["arguments"] = event["arguments"]
            assert event["arguments"] == text
        elif kind.endswith("input.done"):
            item["input"] = event["input"]
            assert event["input"] == text
        elif kind == "content_part.done":
            item["content"] = [event["part"]]
            assert event["part"]["text"] == text
        elif kind == "output_item.done":
            item["status"] = event["item"]["status"]
            assert event["item"] == item
            yield item
