"""A stand-in engine with the part of an engine's chat endpoint that speed and fault tests need.

`max_tokens` is the number of tokens of the answer; `python -m tests.support.stand_in_engine --help`
lists the options. A contract test in tests/e2e compares it with the real engine.
"""

import argparse
import asyncio
import contextlib
import json
import os
from typing import Any

import msgspec
import uvloop

from serving.engine.resumption import Continuation, comment
from serving.engine.usage_journal import Meter, UsageJournal
from serving.engine_protocol import LAST, RESUMPTION, USAGE_ID, USAGE_PATH
from serving.ledger.tokens import Tokens
from tests.support.http_server import Connection, Request, json_response, port_of, response, serve

OK_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
STREAM_HEAD = OK_HEAD % b"text/event-stream; charset=utf-8" + CHUNKED
WORD = "word "
VOCABULARY = 1
PROMPT_TOKENS = 5
DONE = b"data: [DONE]\n\n"
_decode = msgspec.json.decode


def chunk(data: bytes) -> bytes:
    """Encodes `data` as a chunk of HTTP's chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_events(request_id: str, model: str) -> tuple[bytes, bytes, bytes]:
    """Returns the server-sent events of a streamed chat completion: the first,
    without text, one with a token, and the one with the last token."""
    head = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
    }

    def choices(delta: dict[str, str], finish_reason: str | None, **fields: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return head | {"choices": [choice | fields]}

    first = choices({"role": "assistant", "content": ""}, None)
    token = choices({"content": WORD}, None)
    last = choices({"content": WORD}, "length", stop_reason=None)
    return server_sent(first), server_sent(token), server_sent(last)


def usage_event(request_id: str, model: str, tokens: int) -> bytes:
    return server_sent(
        {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [],
            "usage": usage(tokens),
        }
    )


def server_sent(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def usage(completion_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


class StandInEngine(Connection):
    """Class attributes define the behaviour; `requests` counts those with a body."""

    interval_s = 0.0
    answer_bytes = 1000
    model = "stand-in"
    requests = 0
    journal = UsageJournal()
    """Counts as the engine does what `answer` and `stream` generate."""
    generated_tokens = 0
    read_tokens = 0
    continuation: Continuation

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.requests = cls.generated_tokens = cls.read_tokens = 0
        cls.journal = UsageJournal()

    @property
    def request_id(self) -> str:
        return (self.latest.header(b"x-request-id") or b"").decode()

    def receive(self, request: Request) -> None:
        if request.body:
            type(self).requests += 1
            header = self.latest.header(RESUMPTION) or b""
            self.continuation = Continuation.of(header, request.body, VOCABULARY)
            self.respond(_decode(self.continuation.request))
        elif request.target == b"/v1/models":
            self.answer_models()
        elif self.latest.target.startswith(USAGE_PATH.encode()):
            self.answer_usage()
        else:
            self.answer_health()

    def answer_health(self) -> None:
        self.transport.write(response())

    def answer_usage(self) -> None:
        query = self.latest.target.partition(b"?")[2]
        report = msgspec.to_builtins(self.journal.report(query), str_keys=True)
        self.transport.write(json_response(report))

    def meter(self) -> contextlib.AbstractContextManager[Meter | None]:
        usage_id = self.latest.header(USAGE_ID)
        return contextlib.nullcontext() if usage_id is None else self.journal.meter(usage_id)

    def count(self, meter: Meter | None, tokens: int, prompt_tokens: int = PROMPT_TOKENS) -> None:
        """Counts that the answer has this many tokens so far."""
        if meter is None:
            return
        before = meter.read().generated if meter.sources else 0
        counts = Tokens(prompt_tokens, 0, tokens, prompt_tokens, tokens)
        meter.sources[:] = [lambda: counts]
        type(self).generated_tokens += tokens - before
        type(self).read_tokens += 0 if before else prompt_tokens

    def answer_models(self) -> None:
        model = {"id": self.model, "object": "model", "created": 1, "owned_by": "vllm"}
        self.transport.write(json_response({"object": "list", "data": [model]}))

    def respond(self, request: dict[str, Any]) -> None:
        if self.latest.target.endswith(b"/render"):
            self.transport.write(json_response(self.tokens(request)))
        elif request.get("stream"):
            self.task = asyncio.get_running_loop().create_task(self.stream(request))
        else:
            self.transport.write(self.answer(request))

    def tokens(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the tokens of the prompt, for routers that place by tokens."""
        prompt = "".join(str(message.get("content")) for message in request["messages"])
        return {"request_id": self.request_id, "token_ids": list(range(len(prompt) // 4))}

    def answer(self, request: dict[str, Any]) -> bytes:
        with self.meter() as meter:
            self.count(meter, 16)
        message: dict[str, Any] = {"role": "assistant", "content": "x" * self.answer_bytes}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "length"}
        answer = {
            "id": f"chatcmpl-{self.request_id}",
            "object": "chat.completion",
            "created": 1,
            "model": request.get("model"),
            "choices": [choice],
            "usage": usage(16),
        }
        return json_response(answer)

    async def stream(self, request: dict[str, Any]) -> None:
        with self.meter() as meter:
            await self._stream(request, meter)

    async def _stream(self, request: dict[str, Any], meter: Meter | None) -> None:
        """Has a comment where the engine has one: its words are tokens with an event each."""
        tokens = request.get("max_tokens", 16)
        names = self.request_id, request.get("model", "")
        first, token, last = stream_events(*names)
        ends = DONE
        if (request.get("stream_options") or {}).get("include_usage"):
            ends = usage_event(*names, tokens) + DONE
        write = self.transport.write
        if self.continuation.wanted:
            first, ends = comment(first), comment(ends, [LAST])
            last = comment(last, [b'[0,"%b","length",null]' % WORD.encode()])
        write(self.stream_head() + chunk(first))
        token = chunk(token)
        for count in range(tokens - 1):
            self.count(meter, count + 1)
            write(token)
            await asyncio.sleep(self.interval_s)
        self.count(meter, tokens)
        write(chunk(last))
        write(chunk(ends))
        write(b"0\r\n\r\n")

    def stream_head(self) -> bytes:
        """Returns the head of a stream, which says whether it can be continued."""
        told = b"".join(b"%b: %b\r\n" % header for header in self.continuation.headers)
        return OK_HEAD % b"text/event-stream; charset=utf-8" + told + CHUNKED


async def _main(port: int) -> None:
    server = await serve(StandInEngine, port)
    print(json.dumps({"port": port_of(server), "pid": os.getpid()}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interval-s", type=float, default=0.0, help="time between tokens")
    parser.add_argument("--answer-bytes", type=int, default=1000, help="of an unstreamed answer")
    parser.add_argument("--model", default=StandInEngine.model, help="what it says it serves")
    args = parser.parse_args()
    StandInEngine.interval_s = args.interval_s
    StandInEngine.answer_bytes = args.answer_bytes
    StandInEngine.model = args.model
    uvloop.run(_main(args.port))
