"""Puts an answer's events into the form that its client asked for."""

from collections.abc import Mapping

from serving.answers.events import CallBegun, Event, Reasoning, Step, Text, joined
from serving.mistral.reasoning import ThinkSplitter


class ClientForm:
    """Gives tools the client's names, and with a splitter takes `<think>` text for reasoning.

    It takes each step of one answer once, in their order.
    """

    def __init__(self, originals: Mapping[str, str], splitter: ThinkSplitter | None) -> None:
        """`originals` are the client's names by the model's."""
        self._originals = originals
        self._splitter = splitter

    def step(self, step: Step) -> Step:
        events: list[Event] = []
        for event in step.events:
            if isinstance(event, CallBegun):
                events.append(CallBegun(event.id, self._originals.get(event.name, event.name)))
            elif isinstance(event, Text) and self._splitter is not None:
                events += _events(*self._splitter.feed(event.text))
            else:
                events.append(event)
        if step.end is not None and self._splitter is not None:
            events += _events(*self._splitter.finish())
        return Step(joined(events), step.logprobs, step.token_ids, step.end)


def _events(reasoning: str, content: str) -> list[Event]:
    events: list[Event] = [Reasoning(reasoning)] if reasoning else []
    return [*events, Text(content)] if content else events
