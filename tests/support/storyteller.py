"""A stand-in engine that generates one story, from any token in it, and can break off.

A request for several stories gets one, which cannot go on elsewhere.

It tells the router its tokens by the engine's own protocol, counts them, and holds text back for
stop strings.
"""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from serving.answers.events import Step, Text
from serving.engine.resumption import comment
from serving.engine.usage_journal import Meter
from serving.engine_protocol import LAST
from serving.mistral.reasoning import ThinkSplitter
from tests.support.engines import UNAVAILABLE, Engine
from tests.support.stand_in_engine import DONE, chunk, server_sent

STORY = [
    "Once", " upon", " a", " time", ",", "\n", "    ", " in", " Par", "is", " été", " 😀", ".",
    " There", " was", "  ", " a", " drag", "on", ' "', "Smaug", '"', ":", "\n\n", "{", "}", " end",
]  # fmt: skip
PROMPT_TOKENS = 7
_FIRST_TOKEN = 1000
_IDS = [_FIRST_TOKEN + n for n in range(len(STORY))]

Fault = Callable[["Storyteller"], None]


class Storyteller(Engine):
    """Triggers its `fault` after `breaks_after` tokens of its own."""

    breaks_after = 1000
    token_s = 0.0
    """The time between two tokens."""
    fault: Fault

    async def _stream(self, request: dict[str, Any], meter: Meter | None) -> None:
        if self.continuation.wanted and request.get("n", 1) > 1:
            self.continuation.allow("a storyteller tells one story")
        delivered = self.continuation.steps
        begin = sum(1 if isinstance(one.tokens, str) else len(one.tokens) for one in delivered)
        story = list(self._story(request))
        comments = self.continuation.comments(1, dict(zip(STORY, _IDS, strict=True)), (Text,))
        self.transport.write(self.stream_head())
        undelivered = self.continuation.undelivered()
        if "messages" in request:
            begins = {"delta": {"role": "assistant", "content": ""}}
            self._write(undelivered.of(self._event(request, begins, None)))
        self._write(undelivered.of(b"".join(events for events, *_ in story[:begin])))
        for n, (events, *generated) in enumerate(story[begin:]):
            if n == self.breaks_after:
                type(self).fault(self)
                return
            self.count(meter, n + 1, PROMPT_TOKENS + begin)
            self._write(events if comments is None else comments.before(events, 0, *generated))
            await asyncio.sleep(self.token_s)
        last = self._usage(request, len(story)) + DONE
        if begin == len(story):
            last = undelivered.of(last, [LAST])
        elif comments is not None:
            last = comments.last(last)
        if len(story) - begin == self.breaks_after:
            self._write(last.removesuffix(DONE) if last.endswith(b"\n\n" + DONE) else b"")
            type(self).fault(self)
            return
        self._write(last)
        self.transport.write(b"0\r\n\r\n")

    def _story(self, request: dict[str, Any]) -> Iterator[tuple[bytes, Step, Any]]:
        """Yields the events of each token, as a step and as vLLM has it."""
        is_chat = "messages" in request
        limit = request.get("max_tokens", None if is_chat else 16)
        end = len(STORY) if limit is None else min(len(STORY), limit)
        keeps_back = len(request.get("stop", " ")) - 1
        splitter = ThinkSplitter() if request.get("reasoning_format") == "separate" else None
        events = b""
        story, sent = "", 0
        for n, word in enumerate(STORY[:end]):
            story += word
            last = n == end - 1
            text = story[sent : len(story) if last else max(sent, len(story) - keeps_back)]
            sent += len(text)
            finish_reason = None if not last else "length" if limit else "stop"
            parts = [("content" if is_chat else "text", text)]
            if splitter is not None:
                parts = list(zip(("reasoning", "content"), splitter.feed(text), strict=True))
            for name, part in parts:
                if part:
                    choice = {"delta": {name: part}} if is_chat else {"text": part}
                    events += self._event(request, choice, finish_reason)
            output = SimpleNamespace(
                token_ids=[_IDS[n]], finish_reason=finish_reason, stop_reason=None
            )
            yield events, Step([Text(text)]), output
            events = b""

    def _event(
        self, request: dict[str, Any], choice: dict[str, Any], finish_reason: str | None
    ) -> bytes:
        choice = {"index": 0, **choice, "logprobs": None, "finish_reason": finish_reason}
        return server_sent(self._head(request) | {"choices": [choice]})

    def _usage(self, request: dict[str, Any], tokens: int) -> bytes:
        if not (request.get("stream_options") or {}).get("include_usage"):
            return b""
        usage: dict[str, Any] = {
            "prompt_tokens": PROMPT_TOKENS,
            "total_tokens": PROMPT_TOKENS + tokens,
            "completion_tokens": tokens,
        }
        usage["prompt_tokens_details"] = {"cached_tokens": PROMPT_TOKENS}
        return server_sent(self._head(request) | {"choices": [], "usage": usage})

    def _head(self, request: dict[str, Any]) -> dict[str, Any]:
        mark = self.continuation.mark  # differs between engines
        created = mark.created + mark.seed
        return {"id": f"answer-{self.request_id}", "created": created, "model": request["model"]}

    def _write(self, events: bytes) -> None:
        if events:
            self.transport.write(chunk(events))

    def write_event(self, event: dict[str, Any]) -> None:
        """Writes an event with a comment of its own."""
        events = server_sent(event)
        self._write(comment(events) if self.continuation.wanted else events)


def breaking(after: int, fault: Fault) -> type[Storyteller]:
    return type("Breaking", (Storyteller,), {"breaks_after": after, "fault": staticmethod(fault)})


def resets(engine: Storyteller) -> None:
    engine.reset()


def closes(engine: Storyteller) -> None:
    engine.transport.close()


def breaks_within_an_event(engine: Storyteller) -> None:
    engine.transport.write(chunk(b'data: {"id": "answer", "choices": [{"delta": {"content": "hal'))
    engine.transport.close()


def fails_on_the_request(engine: Storyteller) -> None:
    """Sends the event with which vLLM ends a stream that it fails on, whether it is dead or not."""
    error = {"message": "Internal server error", "type": "InternalServerError", "code": 500}
    engine.write_event({"error": error})
    engine.transport.write(chunk(DONE) + b"0\r\n\r\n")


def says_that_it_died(engine: Storyteller) -> None:
    """Ends the stream as vLLM does when its engine core has died; health probes fail from
    then on."""

    def answer_health(asked: Storyteller) -> None:
        asked.transport.write(UNAVAILABLE + b"content-length: 0\r\n\r\n")

    type(engine).answer_health = answer_health  # type: ignore[assignment, method-assign]
    fails_on_the_request(engine)


def hangs(engine: Storyteller) -> None:
    """Hangs on this and each later request, on all connections."""
    type(engine).answer_health = lambda _: None  # type: ignore[assignment, method-assign]


FAULTS: list[Fault] = [resets, closes, breaks_within_an_event, says_that_it_died, hangs]
