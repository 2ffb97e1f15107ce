"""A stand-in for vLLM in a real engine replica.

An answer is words that follow from its prompt, one per step. Each step is made by a process of its
own, like vLLM's engine core, which can be killed and stopped; `POST /fault` slows the engine down
or has it reset its connections. It raises at its death, counts and resumes answers as the front end
does.
"""

import asyncio
import contextlib
import json
import logging.config
import socket
import struct
import subprocess
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgspec
import uvicorn

from serving.answers.events import Step, Text
from serving.engine.resumption import Continuation
from serving.engine.usage_journal import UsageJournal
from serving.engine_protocol import LAST, RESUMPTION, USAGE_ID, USAGE_PATH
from serving.ledger.tokens import Tokens
from serving.poison import Reason

CORE = "StandIn::EngineCore"
STEP_S = 0.05
MAX_NUM_SEQS = 40
PROMPT_TOKENS = 10
_RESET = struct.pack("ii", 1, 0)


def word(prompt: str, n: int) -> str:
    """The n-th token of the answer to a prompt."""
    return f" {crc32(f'{prompt} {n}'.encode()):x}"


class EngineDeadError(Exception):
    pass


class VllmServer:
    """The interface of serving.engine.vllm.server.VllmServer."""

    max_model_len = 32768
    kv_cache_tokens = 1_000_000

    def __init__(self, vllm_args: Mapping[str, Any], *_: Any) -> None:
        self.max_num_seqs = int(vllm_args.get("max-num-seqs", MAX_NUM_SEQS))
        self.death: Reason | None = None
        self._usage = UsageJournal()
        self._step_s = STEP_S
        self._stepped = asyncio.Condition()
        self._core: asyncio.subprocess.Process
        self._steps: asyncio.Task[None]
        self._server: uvicorn.Server
        self._serving: asyncio.Task[None]

    async def start(self) -> Any:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        # `cat` ends with this process, however that ends.
        self._core = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"exec -a {CORE} cat",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._steps = asyncio.create_task(self._step())
        return self.app

    async def listen(self, app: Any, sock: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            loop="uvloop",
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="warning",
            timeout_keep_alive=24 * 3600,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[sock]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.01)

    @property
    def unclaimed_usage(self) -> int:
        return self._usage.unclaimed

    async def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        await asyncio.wait([self._serving], timeout=5)
        self._steps.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._core.kill()

    async def _step(self) -> None:
        """Gives each running answer a token per step, until the core is dead."""
        core = self._core
        assert core.stdin is not None and core.stdout is not None
        while self.death is None:
            # RuntimeError is uvloop's for a closed pipe.
            with contextlib.suppress(ConnectionError, RuntimeError):
                core.stdin.write(b".")
                await core.stdin.drain()
            if not await core.stdout.read(1):
                self.death = "killed"
            async with self._stepped:
                self._stepped.notify_all()
            await asyncio.sleep(self._step_s)

    async def _next_step(self) -> None:
        async with self._stepped:
            await self._stepped.wait()
        if self.death is not None:
            raise EngineDeadError

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        headers = dict(scope["headers"])
        request_id = headers.get(b"x-request-id", b"").decode()
        path = scope["path"]
        body = b""
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        continuation = Continuation.of(headers.get(RESUMPTION, b""), body, 1)
        request = json.loads(continuation.request) if body else {}
        if path == "/health":
            await self._next_step()
            await _answer(send, {})
        elif path == "/fault":
            await _answer(send, {})
            await self._have_fault(**request)
        elif path == USAGE_PATH:
            report = self._usage.report(scope["query_string"])
            await _answer(send, msgspec.to_builtins(report, str_keys=True))
        else:
            answer = _Answer(request, request_id, continuation)
            with self._usage.meter(headers.get(USAGE_ID, b"")) as meter:
                meter.sources.append(answer.counts)
                await (self._stream if request.get("stream") else self._whole)(answer, send)

    async def _have_fault(self, step_s: float | None = None, resets: int = 0) -> None:
        if step_s is not None:
            self._step_s = step_s
        for _ in range(resets):
            for connection in list(self._server.server_state.connections):
                transport: Any = connection.transport
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                transport.abort()
            await asyncio.sleep(0.5)

    async def _whole(self, answer: "_Answer", send: Any) -> None:
        for _ in range(answer.begin, answer.end):
            await self._next_step()
            answer.generated += 1
        message = {"role": "assistant", "content": answer.text(answer.begin, answer.end)}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        await _answer(send, answer.head | {"choices": [choice], "usage": answer.usage})

    async def _stream(self, answer: "_Answer", send: Any) -> None:
        continuation = answer.continuation
        comments = continuation.comments(1, answer.ids, (Text,))
        events = [answer.events(n) for n in range(answer.end)]
        last = answer.last_events()
        content_type = (b"content-type", b"text/event-stream; charset=utf-8")
        headers = [content_type, *continuation.headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        undelivered = continuation.undelivered()
        await _body(send, undelivered.of(answer.event({"role": "assistant", "content": ""})))
        await _body(send, undelivered.of(b"".join(events[: answer.begin])))
        for n in range(answer.begin, answer.end):
            await self._next_step()
            answer.generated += 1
            piece = events[n]
            if comments is not None:
                reason = "length" if n == answer.end - 1 else None
                output = SimpleNamespace(token_ids=[n], finish_reason=reason, stop_reason=None)
                piece = comments.before(piece, 0, Step([Text(answer.text(n, n + 1))]), output)
            await _body(send, piece)
        if answer.begin == answer.end:
            last = undelivered.of(last, [LAST])
        elif comments is not None:
            last = comments.last(last)
        await send({"type": "http.response.body", "body": last})


class _Answer:
    """The answer to a request, or the continuation of one."""

    def __init__(
        self, request: Mapping[str, Any], request_id: str, continuation: Continuation
    ) -> None:
        self.continuation = continuation
        self.generated = 0
        self.begin = sum(
            1 if isinstance(step.tokens, str) else len(step.tokens) for step in continuation.steps
        )
        self.end = request.get("max_tokens") or 16
        self._wants_usage = (request.get("stream_options") or {}).get("include_usage")
        self._prompt = json.dumps(request["messages"][-1]["content"])
        self.head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk" if request.get("stream") else "chat.completion",
            "created": continuation.mark.created,
            "model": request["model"],
        }

    def counts(self) -> Tokens:
        read = PROMPT_TOKENS + self.begin if self.generated else 0
        return Tokens(read, 0, self.generated, read, self.generated)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self.end,
            "total_tokens": PROMPT_TOKENS + self.end,
        }

    def text(self, begin: int, end: int) -> str:
        return "".join(word(self._prompt, n) for n in range(begin, end))

    @property
    def ids(self) -> dict[str, int]:
        return {self.text(n, n + 1): n for n in range(self.end)}

    def events(self, n: int) -> bytes:
        """Returns the events that the n-th token adds to the stream."""
        finish_reason = "length" if n == self.end - 1 else None
        return self.event({"content": self.text(n, n + 1)}, finish_reason)

    def last_events(self) -> bytes:
        usage = _written(self.head | {"choices": [], "usage": self.usage})
        return (usage if self._wants_usage else b"") + b"data: [DONE]\n\n"

    def event(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _written(self.head | {"choices": [choice]})


def _written(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


async def _body(send: Any, events: bytes) -> None:
    if events:
        await send({"type": "http.response.body", "body": events, "more_body": True})


async def _answer(send: Any, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
