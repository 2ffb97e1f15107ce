"""Reads the tool calls of an answer."""

from collections.abc import Callable
from typing import Protocol

from serving.answers.call_array import CallArray
from serving.answers.events import Arguments, CallBegun, CallEnded, Event
from serving.answers.vocabulary import Vocabulary

_NO_ARGUMENTS = "{}"


class CallParser(Protocol):
    """Reads what follows a [TOOL_CALLS] token, up to the answer's end. Its methods append events to
    `out`, and return text that turns out to belong to no call."""

    ended: int
    """Number of calls that are complete."""

    def begin(self, out: list[Event]) -> str:
        """Called for each [TOOL_CALLS] token."""

    def control(self, token_id: int, out: list[Event]) -> None:
        """Called for each other control token."""

    def add(self, text: str, out: list[Event]) -> str:
        """Called for the next text."""

    def end(self, whole: bool, out: list[Event]) -> str:
        """Called at the end, with whether the answer ended by itself."""


def call_parser(vocabulary: Vocabulary, new_id: Callable[[], str]) -> CallParser:
    """Returns the parser for a tokenizer's form of calls. `new_id` returns the id of a call for
    which the model has none."""
    if vocabulary.args is None:
        return CallArray(new_id)
    return NamedCalls(vocabulary.args, vocabulary.call_id, new_id)


class NamedCalls:
    """Reads `[TOOL_CALLS]name[ARGS]{...}`, repeated, with `[CALL_ID]id` after the name if the model
    chose an id. Without [ARGS] a name ends at the brace."""

    def __init__(self, args: int, call_id: int | None, new_id: Callable[[], str]) -> None:
        self.ended = 0
        self._args = args
        self._call_id = call_id
        self._new_id = new_id
        self._head: list[str] | None = None
        """Pieces of the name or id that is read at present; None within arguments."""
        self._name: str | None = None
        """The name, while the id is read."""
        self._open = False
        self._empty = True

    def begin(self, out: list[Event]) -> str:
        self.end(True, out)
        self._head, self._name = [], None
        return ""

    def control(self, token_id: int, out: list[Event]) -> None:
        if self._head is None:
            return
        if token_id == self._args:
            self._begin_arguments(out)
        elif token_id == self._call_id and self._name is None:
            self._name = "".join(self._head).strip()
            self._head = []

    def add(self, text: str, out: list[Event]) -> str:
        if self._head is not None:
            before, brace, after = text.partition("{")
            self._head.append(before)
            if not brace:
                return ""
            self._begin_arguments(out)
            text = brace + after
        if self._open:
            if self._empty:
                text = text.lstrip()
            if text:
                self._empty = False
                out.append(Arguments(text))
        return ""

    def end(self, whole: bool, out: list[Event]) -> str:
        if self._open and whole:
            if self._empty:
                out.append(Arguments(_NO_ARGUMENTS))
            out.append(CallEnded())
            self.ended += 1
        self._open, self._head = False, None
        return ""

    def _begin_arguments(self, out: list[Event]) -> None:
        last = "".join(self._head or ()).strip()
        name, call_id = (last, "") if self._name is None else (self._name, last)
        self._head = None
        self._open = name != ""
        self._empty = True
        if self._open:
            out.append(CallBegun(call_id or self._new_id(), name))
