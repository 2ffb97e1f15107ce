"""The events of an answer, which every API's encoder writes in its own form."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

import msgspec


class Text(msgspec.Struct, frozen=True, gc=False):
    text: str


class Reasoning(msgspec.Struct, frozen=True, gc=False):
    """What the model thinks before its answer."""

    text: str


class CallBegun(msgspec.Struct, frozen=True, gc=False):
    """A tool call begins. Its `Arguments` follow, before any other event but `CallEnded`."""

    id: str
    name: str


class Arguments(msgspec.Struct, frozen=True, gc=False):
    """A piece of the JSON arguments of the call that began last."""

    text: str


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """The call that began last is complete. A call that `max_tokens` cuts off has no such event."""


Event = Text | Reasoning | CallBegun | Arguments | CallEnded

EndReason = Literal["stop", "length", "tool_calls"]


class End(msgspec.Struct, frozen=True, gc=False):
    """The end of an answer."""

    reason: EndReason
    """"tool_calls" if the answer ended by itself after at least one call; "length" if it was cut
    off, by `max_tokens` or because it repeated itself endlessly."""
    stop: str | int | None = None
    """The stop string or the id of the requested stop token that ended the answer;
    "repetition_detected" for endless repetition."""


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """The log-probability of a token."""

    token_id: int
    bytes: bytes
    """The token's part of the text; for a control token its name, such as `</s>`."""
    logprob: float
    top: tuple["TokenLogprob", ...] = ()
    """The most probable tokens in its place, as many as requested, most probable first."""
    rank: int | None = None
    """The token's place among all tokens by probability; 1 is the most probable."""
    in_text: bool = True
    """Whether the text has the token, as it does not have control tokens that are left out."""

    @property
    def token(self) -> str:
        """The text of the token; characters of which it holds only a part are replaced."""
        return self.bytes.decode("utf-8", "replace")

    def name(self, by_id: bool) -> str:
        """Returns the text of the token, or its id in the form of vLLM's
        `return_tokens_as_token_ids`."""
        return f"token_id:{self.token_id}" if by_id else self.token


class PromptTokens(msgspec.Struct, frozen=True, gc=False):
    """A prompt as the engine was given it."""

    index: int
    """Its place among the prompts of the request."""
    token_ids: list[int]
    text: str
    """The text of the tokens, without control tokens."""
    first: TokenLogprob
    """The first token, which has no log-probability: it is 0 here."""
    logprobs: list[TokenLogprob | None] | None
    """One for each token, of which the first has none; None unless they were requested."""


class Step(msgspec.Struct, gc=False):
    """What one or more consecutive tokens of an answer add to it."""

    events: list[Event]
    logprobs: list[TokenLogprob] | None = None
    """One for each token of the step; None unless they were requested."""
    token_ids: list[int] | None = None
    """The tokens of the step; None unless they were requested."""
    end: End | None = None


class TextTokens:
    """Tells which tokens make up the texts of an answer, rather than its reasoning and calls."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []

    def of(self, step: Step) -> list[TokenLogprob]:
        """Returns the tokens that belong to the first text of the step; none if it has no text.
        Tokens of steps without events, whose text is held back, belong to the next one."""
        if step.logprobs is None:
            return []
        if not step.events:
            self._waiting += step.logprobs
            return []
        tokens, self._waiting = [*self._waiting, *step.logprobs], []
        has_text = any(isinstance(event, Text) and event.text for event in step.events)
        return tokens if has_text else []


def joined(events: list[Event]) -> list[Event]:
    """Joins adjacent events of the same kind."""
    if len(events) < 2:
        return events
    result: list[Event] = []
    for kind, group in groupby(events, type):
        if kind is Text or kind is Reasoning or kind is Arguments:
            result.append(kind("".join([event.text for event in group])))  # type: ignore[union-attr]
        else:
            result += group
    return result


@dataclass(slots=True)
class Usage:
    """Counts of tokens, which grow while answers are generated."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the engine took from its prefix cache."""
    completion_tokens: int = 0
    """Generated tokens of all choices, with those that end answers."""
    reasoning_tokens: int = 0


@dataclass(slots=True)
class ToolCall:
    id: str
    name: str
    arguments: str = ""
    complete: bool = False
    """Whether the arguments are a whole JSON value, rather than the beginning of one."""


@dataclass(slots=True)
class Answer:
    """All of an answer's events together."""

    parts: list[str | Reasoning | ToolCall] = field(default_factory=list)
    """The texts, reasoning and calls in the order in which they were generated; adjacent texts, and
    adjacent reasoning, are joined. None is empty."""
    logprobs: list[TokenLogprob] | None = None
    text_logprobs: list[list[TokenLogprob]] = field(default_factory=list)
    """The part of `logprobs` that belongs to each of the texts in `parts`."""
    token_ids: list[int] | None = None
    end: End | None = None
    _text_tokens: TextTokens = field(default_factory=TextTokens, repr=False, compare=False)

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def reasoning(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Reasoning))

    @property
    def calls(self) -> list[ToolCall]:
        return [part for part in self.parts if isinstance(part, ToolCall)]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> "Answer":
        """Returns the answer of all its steps; adding one by one copies the text for each."""
        answer = cls()
        if any(step.logprobs is not None for step in steps):  # they belong to the texts of steps
            for step in steps:
                answer.add(step)
            return answer
        answer.add(Step(joined([event for step in steps for event in step.events])))
        for step in steps:
            answer.add(Step([], token_ids=step.token_ids, end=step.end))
        return answer

    def add(self, step: Step) -> None:
        tokens = self._text_tokens.of(step)
        for event in step.events:
            self._add(event)
            if tokens and isinstance(event, Text) and event.text:
                self.text_logprobs[-1] += tokens
                tokens = []
        if step.logprobs is not None:
            self.logprobs = [] if self.logprobs is None else self.logprobs
            self.logprobs += step.logprobs
        if step.token_ids is not None:
            self.token_ids = [] if self.token_ids is None else self.token_ids
            self.token_ids += step.token_ids
        self.end = step.end or self.end

    def _add(self, event: Event) -> None:
        parts = self.parts
        last = parts[-1] if parts else None
        match event:
            case Text("") | Reasoning(""):
                return
            case Text(text):
                if isinstance(last, str):
                    parts[-1] = last + text
                else:
                    parts.append(text)
                    self.text_logprobs.append([])
            case Reasoning(text):
                if isinstance(last, Reasoning):
                    parts[-1] = Reasoning(last.text + text)
                else:
                    parts.append(event)
            case CallBegun(id, name):
                parts.append(ToolCall(id, name))
            case Arguments(text):
                self.calls[-1].arguments += text
            case CallEnded():
                self.calls[-1].complete = True
