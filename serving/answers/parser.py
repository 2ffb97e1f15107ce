"""Turns the token ids of one answer into its events, as they are generated."""

from collections.abc import Callable, Collection, Sequence
from enum import Enum, auto
from typing import Literal

from serving.answers.calls import call_parser
from serving.answers.events import (
    End,
    Event,
    Reasoning,
    Step,
    Text,
    TokenLogprob,
    joined,
)
from serving.answers.loop_guard import STOP_REASON, LoopDetector
from serving.answers.stop_strings import StopStrings
from serving.answers.text import TextDecoder
from serving.answers.vocabulary import Vocabulary

_LOOP = End("length", STOP_REASON)


class _Within(Enum):
    TEXT = auto()
    REASONING = auto()
    CALLS = auto()


class AnswerParser:
    """Reads one answer. The events say the same however its tokens are cut into steps.

    White space at the end of the reasoning, and text before a call that is white space alone, are
    left out.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        new_id: Callable[[], str],
        *,
        tools: bool = False,
        stop: Sequence[str] = (),
        include_stop_str: bool = False,
        skip_special_tokens: bool = True,
        min_tokens: int = 0,
        stop_token_ids: Collection[int] = (),
        loop_guard: LoopDetector | None = None,
        want_logprobs: bool = False,
        want_token_ids: bool = False,
    ) -> None:
        """`tools` is whether the answer may have calls, for which `new_id` makes ids; otherwise
        [TOOL_CALLS] is a control token like any other. `stop_token_ids` end it anywhere but in
        calls, and then add nothing to the text unless `include_stop_str`. They, stop strings and
        loops end nothing before there are `min_tokens`."""
        self.ended = False
        """Whether the answer has ended, so that the engine may stop generating it."""
        self.tokens = 0
        """Number of the answer's tokens, with the one that ended it."""
        self.reasoning_tokens = 0
        """Number of tokens between [THINK] and [/THINK]."""
        self._texts = vocabulary.texts
        self._control = vocabulary.control
        self._think = vocabulary.think
        self._end_think = vocabulary.end_think
        self._tool_calls = vocabulary.tool_calls if tools else None
        self._structure = {self._think, self._end_think, self._tool_calls} - {None}
        self._eos = vocabulary.eos
        self._stop_token_ids = frozenset(stop_token_ids) - {self._eos}
        self._ends = self._stop_token_ids | {self._eos}
        self._stop_token: int | None = None
        """The one of `stop_token_ids` that ended the answer."""
        self._include_stop = include_stop_str
        self._decoder = TextDecoder(vocabulary, skip_special_tokens)
        self._calls = call_parser(vocabulary, new_id)
        self._stop = StopStrings(stop, include_stop_str)
        self._has_stop = any(stop)
        self._min_tokens = min_tokens
        self._loop_guard = loop_guard
        self._want_logprobs = want_logprobs
        self._want_token_ids = want_token_ids
        self._within = _Within.TEXT
        self._tools = tools
        self._leading: list[str] | None = [] if tools else None
        """White space that is dropped if a call follows; None after any other text."""
        self._trailing: list[str] = []
        """White space that is dropped if the reasoning ends with it."""
        self._plain = self._is_plain()

    def feed(self, token_ids: Sequence[int], logprobs: list[TokenLogprob] | None = None) -> Step:
        """Reads the next tokens. The step has an `End` if a stop string or a loop ended the answer;
        then the tokens after that are ignored. `logprobs` are one for each token."""
        if self._plain and len(token_ids) == 1:
            token_id = token_ids[0]
            text = self._texts[token_id]
            if text is not None and token_id not in self._ends:
                self.tokens += 1
                end = None
                guard = self._loop_guard
                if guard is not None and guard.add(token_id) and self.tokens >= self._min_tokens:
                    end = _LOOP
                    self._end()
                return Step(
                    [Text(text)],
                    logprobs if self._want_logprobs else None,
                    [token_id] if self._want_token_ids else None,
                    end,
                )
        return self._feed(token_ids, logprobs)

    def finish(self, reason: Literal["stop", "length"], stop_reason: int | None = None) -> Step:
        """Ends the answer as the engine did, unless it has ended by itself. `stop_reason` is the
        requested stop token that ended it."""
        if self.ended:
            return Step([])
        out: list[Event] = []
        whole = reason == "stop"
        self._flush(out, whole)
        self._end()
        called = whole and self._calls.ended
        end = self._stopped or End("tool_calls" if called else reason, stop_reason)
        return Step(joined(out), end=end)

    def _feed(self, token_ids: Sequence[int], logprobs: list[TokenLogprob] | None) -> Step:
        if self.ended:
            return Step([])
        out: list[Event] = []
        end = None
        if loop := self._loop_length(token_ids):
            token_ids, end = token_ids[:loop], _LOOP
        if self._plain and (text := self._plain_text(token_ids)):
            self.tokens += len(token_ids)
            out.append(Text(text))
        else:
            for count, token_id in enumerate(token_ids, 1):
                self._read(token_id, out)
                if self._stopped is not None:
                    token_ids = token_ids[:count]
                    break
        if self._stop.match is None and (end is not None or self._stop_token is not None):
            self._flush(out, whole=self._stop_token is not None)
        end = self._stopped or end
        self._plain = self._is_plain()
        if end is not None:
            self._end_blank(out)
            self._end()
        return Step(
            joined(out),
            logprobs[: len(token_ids)] if self._want_logprobs and logprobs is not None else None,
            list(token_ids) if self._want_token_ids else None,
            end,
        )

    @property
    def _stopped(self) -> End | None:
        if self._stop.match is not None:
            return End("stop", self._stop.match)
        if self._stop_token is not None:
            return End("tool_calls" if self._calls.ended else "stop", self._stop_token)
        return None

    def _end(self) -> None:
        self.ended = True
        self._plain = False

    def _is_plain(self) -> bool:
        """Whether ordinary tokens are now text that needs nothing but decoding."""
        return (
            self._within is _Within.TEXT
            and not self._has_stop
            and self._leading is None
            and not self._decoder.within_character
        )

    def _plain_text(self, token_ids: Sequence[int]) -> str:
        """Returns the text of tokens that are nothing else; empty for any others."""
        texts = [self._texts[token_id] for token_id in token_ids]
        if not self._ends.isdisjoint(token_ids):
            return ""
        try:
            return "".join(texts)  # type: ignore[arg-type]  # None is what the error is for
        except TypeError:
            return ""

    def _loop_length(self, token_ids: Sequence[int]) -> int:
        """Returns after how many of the tokens the answer ends as a loop; 0 if it does not."""
        guard = self._loop_guard
        if guard is None:
            return 0
        for count, token_id in enumerate(token_ids, 1):
            loops = guard.add(token_id) and token_id not in self._ends
            if loops and self.tokens + count >= self._min_tokens:
                return count
        return 0

    def _read(self, token_id: int, out: list[Event]) -> None:
        self.tokens += 1
        if (
            token_id in self._stop_token_ids
            and self._within is not _Within.CALLS
            and self.tokens > self._min_tokens
        ):
            self._stop_token = token_id
        stops = token_id == self._stop_token and not self._include_stop
        if stops or token_id == self._eos:
            self._write(self._decoder.flush(), out)
        elif token_id in self._structure:
            self._write(self._decoder.flush(), out)
            if self._stop.match is None:
                self._turn(token_id, out)
        elif self._within is not _Within.CALLS:
            self.reasoning_tokens += self._within is _Within.REASONING
            self._write(self._decoder.next(token_id), out)
        elif token_id in self._control:
            self._write(self._decoder.flush(), out)
            self._calls.control(token_id, out)
        else:
            self._write(self._decoder.next(token_id), out)

    def _turn(self, token_id: int, out: list[Event]) -> None:
        """Enters or leaves the reasoning or calls."""
        within = self._within
        if token_id == self._tool_calls:
            if within is not _Within.CALLS:
                self._release(out)
                self._leading = None
                self._within = _Within.CALLS
            if text := self._calls.begin(out):
                self._give_back(text, out)
                if self._stop.match is None:
                    self._release(out)
                    self._within = _Within.CALLS
        elif token_id == self._think and within is _Within.TEXT:
            self._release(out)
            self._end_blank(out)
            self._within = _Within.REASONING
        elif token_id == self._end_think and within is _Within.REASONING:
            self._release(out)
            self._trailing.clear()
            self._within = _Within.TEXT
            self._leading = [] if self._tools else None

    def _write(self, text: str, out: list[Event]) -> None:
        """Adds text to what the answer is within."""
        if not text:
            return
        if self._within is _Within.CALLS:
            self._give_back(self._calls.add(text, out), out)
        else:
            if self._has_stop:
                text = self._stop.add(text, self.tokens > self._min_tokens)
            self._emit(text, out)

    def _give_back(self, text: str, out: list[Event]) -> None:
        """Makes what was read as calls text."""
        if text:
            self._within = _Within.TEXT
            self._write(text, out)

    def _emit(self, text: str, out: list[Event]) -> None:
        if not text:
            return
        if self._within is _Within.REASONING:
            kept = text.rstrip()
            if kept:
                out.append(Reasoning("".join([*self._trailing, kept])))
                self._trailing.clear()
            self._trailing.append(text[len(kept) :])
        elif self._leading is None:
            out.append(Text(text))
        elif text.isspace():
            self._leading.append(text)
        else:
            out.append(Text("".join([*self._leading, text])))
            self._leading = None

    def _release(self, out: list[Event]) -> None:
        """Gives the text that is held back for stop strings."""
        if self._has_stop and self._stop.match is None:
            self._emit(self._stop.flush(), out)

    def _end_blank(self, out: list[Event]) -> None:
        """Gives the white space that no call followed."""
        if self._within is _Within.TEXT and self._leading:
            out.append(Text("".join(self._leading)))
            self._leading.clear()

    def _flush(self, out: list[Event], whole: bool) -> None:
        """Ends what the answer is within. `whole` is whether the answer ended by itself."""
        self._write(self._decoder.flush(), out)
        if self._within is _Within.CALLS:
            self._give_back(self._calls.end(whole, out), out)
        if self._within is not _Within.CALLS:
            self._release(out)
        self._end_blank(out)
