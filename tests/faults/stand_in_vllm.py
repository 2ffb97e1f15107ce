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
import re
import socket
import struct
import subprocess
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
import uvicorn

from serving.engine.usage_journal import UsageJournal
from serving.engine_protocol import USAGE_ID, USAGE_PATH
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


def tokens(text: str) -> list[str]:
    return re.findall(r" \w+", text)


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
        request = json.loads(body) if body else {}
        if path == "/health":
            await self._next_step()
            await _answer(send, {})
        elif path == "/fault":
            await _answer(send, {})
            await self._have_fault(**request)
        elif path == "/tokenize":
            found = tokens(request["prompt"])
            await _answer(send, {"tokens": list(range(len(found))), "count": len(found)})
        elif path == USAGE_PATH:
            report = self._usage.report(scope["query_string"])
            await _answer(send, msgspec.to_builtins(report, str_keys=True))
        else:
            answer = _Answer(request, request_id)
            with self._usage.meter(headers.get(USAGE_ID, b"")) as meter:
                meter.sources.append(answer.counts)
                await (self._stream if request.get("stream") else self._whole)(
                    request, answer, send
                )

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

    async def _whole(self, request: Mapping[str, Any], answer: "_Answer", send: Any) -> None:
        for _ in range(answer.begin, answer.end):
            await self._next_step()
            answer.generated += 1
        message = {"role": "assistant", "content": answer.text(answer.begin, answer.end)}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        await _answer(send, answer.head | {"choices": [choice], "usage": answer.usage})

    async def _stream(self, request: Mapping[str, Any], answer: "_Answer", send: Any) -> None:
        content_type = (b"content-type", b"text/event-stream; charset=utf-8")
        await send({"type": "http.response.start", "status": 200, "headers": [content_type]})
        await _event(send, answer.event({"role": "assistant", "content": ""}))
        for n in range(answer.begin, answer.end):
            await self._next_step()
            answer.generated += 1
            finish_reason = "length" if n == answer.end - 1 else None
            await _event(send, answer.event({"content": answer.text(n, n + 1)}, finish_reason))
        if (request.get("stream_options") or {}).get("include_usage"):
            await _event(send, answer.head | {"choices": [], "usage": answer.usage})
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class _Answer:
    """The answer to a request, or the continuation of one."""

    def __init__(self, request: Mapping[str, Any], request_id: str) -> None:
        messages = list(request["messages"])
        self.generated = 0
        self.begin = 0
        if request.get("continue_final_message"):
            self.begin = len(tokens(messages.pop()["content"]))
        self.end = self.begin + (request.get("max_tokens") or 16)
        self._prompt = json.dumps(messages[-1]["content"])
        self.head = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk" if request.get("stream") else "chat.completion",
            "created": 1,
            "model": request["model"],
        }

    def counts(self) -> Tokens:
        read = PROMPT_TOKENS + self.begin if self.generated else 0
        return Tokens(read, 0, self.generated, read, self.generated)

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": PROMPT_TOKENS + self.begin,
            "completion_tokens": self.end - self.begin,
            "total_tokens": PROMPT_TOKENS + self.end,
        }

    def text(self, begin: int, end: int) -> str:
        return "".join(word(self._prompt, n) for n in range(begin, end))

    def event(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return self.head | {"choices": [choice]}


async def _event(send: Any, event: dict[str, Any]) -> None:
    body = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _answer(send: Any, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
