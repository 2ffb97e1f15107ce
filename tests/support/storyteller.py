"""A stand-in engine that generates one story, from any point in it, and can break off.

Its tokens have several widths; some are white space alone. Like vLLM it counts tokens, holds text
back for stop strings, and strips the spaces at the end of an answer to continue.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from serving.engine.usage_journal import Meter
from serving.mistral.reasoning import ThinkSplitter
from tests.support.engines import UNAVAILABLE, Engine
from tests.support.http_server import Request, json_response
from tests.support.stand_in_engine import DONE, STREAM_HEAD, chunk, server_sent

STORY = [
    "Once", " upon", " a", " time", ",", "\n", "    ", " in", " Par", "is", " été", " 😀", ".",
    " There", " was", "  ", " a", " drag", "on", ' "', "Smaug", '"', ":", "\n\n", "{", "}", " end",
]  # fmt: skip
PROMPT_TOKENS = 7
_FIRST_TOKEN = 1000
_IDS = [_FIRST_TOKEN + n for n in range(len(STORY))]

Fault = Callable[["Storyteller"], None]


def tokens_of(text: str) -> list[int]:
    """Raises AssertionError for a text that does not end at an edge of the story."""
    ids = []
    for token, piece in zip(_IDS, STORY, strict=True):
        if not text:
            break
        assert text.startswith(piece), f"{text!r} was not cut at a token's edge"
        text = text.removeprefix(piece)
        ids.append(token)
    return ids


class Storyteller(Engine):
    """Triggers its `fault` after `breaks_after` tokens of its own."""

    breaks_after = 1000
    token_s = 0.0
    """The time between two tokens."""
    fault: Fault

    def receive(self, request: Request) -> None:
        if request.target == b"/tokenize":
            question = json.loads(request.body)
            self.transport.write(json_response({"tokens": self._tokens(question)}))
        else:
            super().receive(request)

    def _tokens(self, question: dict[str, Any]) -> list[int]:
        if question["add_special_tokens"]:
            return list(range(PROMPT_TOKENS))
        return tokens_of(question["prompt"])

    async def _stream(self, request: dict[str, Any], meter: Meter | None) -> None:
        is_chat = "messages" in request
        begin = self._delivered_tokens(request)
        end = len(STORY)
        limit = request.get("max_tokens", None if is_chat else 16)
        if limit is not None:
            end = min(end, begin + limit)
        keeps_back = len(request.get("stop", " ")) - 1
        self.transport.write(STREAM_HEAD)
        if is_chat:
            self._event(request, {"delta": {"role": "assistant", "content": ""}}, None)
        splitter = ThinkSplitter() if request.get("reasoning_format") == "separate" else None
        if splitter is not None:
            splitter.skip("".join(STORY[:begin]))
        story, sent = "", 0
        for n in range(begin, end):
            if n - begin == self.breaks_after:
                type(self).fault(self)
                return
            self.count(meter, n - begin + 1, PROMPT_TOKENS + begin)
            story += STORY[n]
            last = n == end - 1
            text = story[sent : len(story) if last else max(sent, len(story) - keeps_back)]
            sent += len(text)
            finish_reason = None if not last else "length" if limit else "stop"
            if splitter is not None:
                deltas = zip(("reasoning", "content"), splitter.feed(text), strict=True)
                for name, piece in deltas:
                    if piece:
                        self._event(request, {"delta": {name: piece}}, finish_reason)
            else:
                choice = {"delta": {"content": text}} if is_chat else {"text": text}
                self._event(request, choice, finish_reason)
            await asyncio.sleep(self.token_s)
        if (request.get("stream_options") or {}).get("include_usage"):
            self._usage(request, PROMPT_TOKENS + begin, end - begin)
        if end - begin == self.breaks_after:
            type(self).fault(self)
            return
        self.transport.write(chunk(DONE) + b"0\r\n\r\n")

    def _delivered_tokens(self, request: dict[str, Any]) -> int:
        """Returns how many tokens of the story are already in the prompt."""
        if "messages" not in request:
            prompt = request["prompt"]
            return len(set(prompt) & set(_IDS))
        if not request.get("continue_final_message"):
            return 0
        assert request["add_generation_prompt"] is False
        assert request["messages"][-1]["role"] == "assistant"
        return len(tokens_of(request["messages"][-1]["content"].rstrip(" ")))

    def _event(
        self, request: dict[str, Any], choice: dict[str, Any], finish_reason: str | None
    ) -> None:
        choice = {"index": 0, **choice, "logprobs": None, "finish_reason": finish_reason}
        self.write_event(self._head(request) | {"choices": [choice]})

    def _usage(self, request: dict[str, Any], prompt: int, completion: int) -> None:
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }
        usage["prompt_tokens_details"] = {"cached_tokens": prompt}
        self.write_event(self._head(request) | {"choices": [], "usage": usage})

    def _head(self, request: dict[str, Any]) -> dict[str, Any]:
        created = id(type(self))  # differs between engines
        return {"id": f"answer-{self.request_id}", "created": created, "model": request["model"]}

    def write_event(self, event: dict[str, Any]) -> None:
        self.transport.write(chunk(server_sent(event)))


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
