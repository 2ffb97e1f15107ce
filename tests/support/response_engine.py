"""A stand-in engine with the part of /v1/responses that storing needs: it counts the messages that
it was sent, and repeats what the real one repeats."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from serving.answers.events import Answer, End, Step, Text, Usage
from serving.encoders.responses import ResponsesEncoder
from serving.engine_protocol import LAST
from serving.requests.responses import read
from tests.support.engines import Engine, Steered
from tests.support.http_server import json_response
from tests.support.reading import READING
from tests.support.stand_in_engine import STREAM_HEAD, chunk


def event(name: str, **fields: Any) -> bytes:
    data = json.dumps({**fields, "sequence_number": 0, "type": name}, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()


class ResponseEngine(Engine):
    """`status` is that of its responses, `text` their text."""

    status = "completed"
    text = "Hello!"

    def answer(self, request: dict[str, Any]) -> bytes:
        with self.meter() as meter:
            self.count(meter, 2)
        return json_response(self.response(request, self.status))

    def response(self, request: dict[str, Any], status: str) -> dict[str, Any]:
        ended = status in ("completed", "incomplete")
        part = {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}
        message = {
            "id": f"msg_{self.request_id}00",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }
        usage = {
            "input_tokens": 5,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 7,
        }
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": 1,
            "model": request.get("model"),
            "instructions": request.get("instructions"),
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "background": request.get("background", False),
            "previous_response_id": request.get("previous_response_id"),
            "status": status,
            "error": None,
            "incomplete_details": details,
            "output": [message] if ended else [],
            "usage": usage if ended else None,
        }

    async def stream(self, request: dict[str, Any]) -> None:
        write = self.transport.write
        begun = self.response(request, "in_progress")
        write(STREAM_HEAD + chunk(event("response.created", response=begun)))
        for word in self.text.split(" "):
            delta = event("response.output_text.delta", delta=word, output_index=0)
            write(chunk(delta))
            await asyncio.sleep(0)
        final = event(f"response.{self.status}", response=self.response(request, self.status))
        # In pieces, as the network may deliver it.
        write(b"%x\r\n" % len(final) + final[:30])
        await asyncio.sleep(0.001)
        write(final[30:] + b"\r\n0\r\n\r\n")


class SteeredResponses(Steered, ResponseEngine):
    """Leaves each request to the test."""


class CountingResponses(Engine):
    """Counts aloud, a number a token, to `max_output_tokens`. Its events are an engine's."""

    interval_s = 0.01

    @staticmethod
    def text(tokens: int) -> str:
        return "".join(f"{number} " for number in range(tokens))

    async def stream(self, request: dict[str, Any]) -> None:
        continuation, tokens = self.continuation, request["max_output_tokens"]
        options = read(continuation.request, *READING)[1]
        usage = Usage(prompt_tokens=5, completion_tokens=tokens)
        response_id, created = f"resp_{self.request_id}", continuation.mark.created
        encoder = ResponsesEncoder(options, response_id, created, request["model"], usage)
        words = [Text(f"{number} ") for number in range(tokens)]
        comments = continuation.comments(1, {w.text: n for n, w in enumerate(words)}, (Text,))
        begin = sum(
            1 if isinstance(step.tokens, str) else len(step.tokens) for step in continuation.steps
        )
        undelivered = continuation.undelivered()
        self.transport.write(self.stream_head())
        before = encoder.begin()
        before += b"".join(encoder.step(0, Step([word])) for word in words[:begin])
        if begin:
            self._write(undelivered.of(before))
            before = b""
        for number, word in enumerate(words[begin:], begin):
            step, token = Step([word]), SimpleNamespace(token_ids=[number])
            token.finish_reason = token.stop_reason = None
            piece = before + encoder.step(0, step)
            before = b""
            self._write(piece if comments is None else comments.before(piece, 0, step, token))
            await asyncio.sleep(self.interval_s)
        last = encoder.step(0, Step([], end=End("stop"))) + encoder.finish()
        if begin == tokens:
            last = undelivered.of(last, [LAST])
        elif comments is not None:
            last = comments.last(last)
        self._write(last)
        self.transport.write(b"0\r\n\r\n")

    def _write(self, events: bytes) -> None:
        if events:
            self.transport.write(chunk(events))


class RepeatingResponses(ResponseEngine):
    """Repeats of each request what a real engine repeats, in a whole answer."""

    def answer(self, request: dict[str, Any]) -> bytes:
        with self.meter() as meter:
            self.count(meter, 2)
        options = read(json.dumps(request).encode(), *READING)[1]
        usage = Usage(prompt_tokens=5, completion_tokens=2)
        encoder = ResponsesEncoder(options, f"resp_{self.request_id}", 1, request["model"], usage)
        return json_response(
            json.loads(encoder.whole([Answer.of([Step([Text(self.text)], end=End("stop"))])]))
        )
