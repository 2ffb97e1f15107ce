"""A stand-in for vLLM in a real engine replica.

An answer is words that follow from its prompt, one per step. Each step is made by a process of its
own, like vLLM's engine core, which can be killed and stopped; `POST /fault` slows the engine down
or has it reset its connections. It raises at its death, counts and resumes answers as the front end
does.

With an adapter, the words follow from its field `trained_for` as well. Adapters are loaded and kept
as in a real engine. Like vLLM it has a slot for each of `max-loras` that run, and dies of one whose
files are gone when it needs them.
"""

import asyncio
import contextlib
import json
import logging.config
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import uvicorn

from serving.adapters.adapter import Version
from serving.adapters.files import CONFIG_FILE, AdapterError
from serving.adapters.store import AdapterStore
from serving.answers.events import Step, Text
from serving.engine.adapters import Adapters, NoAdapterError
from serving.engine.resumption import Continuation
from serving.engine.usage_journal import UsageJournal
from serving.engine_protocol import (
    ADAPTER,
    ADAPTERS_PATH,
    LAST,
    NO_ADAPTER,
    RESUMPTION,
    UNAVAILABLE,
    USAGE_ID,
    USAGE_PATH,
    NotLoaded,
)
from serving.poison import Reason
from tests.faults.stand_in_answer import Answer

CORE = "StandIn::EngineCore"
STEP_S = 0.05
MAX_NUM_SEQS = 40
LOAD_S = 0.05
"""The time that the load of an adapter takes."""
WAITED = "x-waited-for-slot"
"""Response header: the request has waited for a slot of its adapter, as routers should prevent."""
REFUSED = "refused-by-the-engine"
"""The `trained_for` of an adapter that the engine does not take."""
_RESET = struct.pack("ii", 1, 0)


class EngineDeadError(Exception):
    pass


class VllmServer:
    """The interface of serving.engine.vllm.server.VllmServer."""

    max_model_len = 32768
    kv_cache_tokens = 1_000_000

    def __init__(
        self,
        vllm_args: Mapping[str, Any],
        served_names: list[str],
        _rules: Any = None,
        _loop_guard: Any = None,
        adapter_store: AdapterStore | None = None,
        host_cache_gib: float = 0.0,
    ) -> None:
        self.max_num_seqs = int(vllm_args.get("max-num-seqs", MAX_NUM_SEQS))
        self.death: Reason | None = None
        self._loras = _Loras(int(vllm_args.get("max-loras", 0)))
        self._adapter_store = adapter_store
        self._adapters: Adapters[_Lora] | None = None
        if adapter_store is not None:
            self._adapters = Adapters(
                self._loras, _Lora, adapter_store, host_cache_gib, served_names[0]
            )
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
        if self._adapter_store is not None:
            self._adapter_store.close()

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
        elif path == ADAPTERS_PATH:
            await self._tell_adapters(body, send)
        else:
            answer = Answer(request, request_id, continuation)
            digest = headers.get(ADAPTER, b"").decode()
            try:
                async with self._on_adapter(digest, answer):
                    with self._usage.meter(headers.get(USAGE_ID, b"")) as meter:
                        meter.sources.append(answer.counts)
                        await (self._stream if request.get("stream") else self._whole)(answer, send)
            except NoAdapterError:
                unavailable = [(UNAVAILABLE, NO_ADAPTER), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 503, "headers": unavailable})
                await send({"type": "http.response.body", "body": b""})

    async def _tell_adapters(self, body: bytes, send: Any) -> None:
        """Loads an adapter, if `body` is one, and tells which are loaded."""
        assert self._adapters is not None
        try:
            if body:
                await self._adapters.load(msgspec.json.decode(body, type=Version))
        except AdapterError as error:
            await _answer(send, msgspec.to_builtins(NotLoaded(str(error))), status=422)
        else:
            await _answer(send, msgspec.to_builtins(self._adapters.report()))

    @contextlib.asynccontextmanager
    async def _on_adapter(self, digest: str, answer: Answer) -> AsyncIterator[None]:
        """Has the answer be of the adapter, once there is a slot for that. Raises
        NoAdapterError."""
        if not digest:
            yield
            return
        if self._adapters is None:
            raise NoAdapterError(digest)
        with self._adapters.running(digest) as lora:
            while not self._loras.has_slot(lora):
                answer.headers = [(WAITED.encode(), b"1")]
                await self._next_step()
            try:
                answer.trained_for = self._loras.begin(lora)
            except OSError:
                self._core.kill()
                await self._next_step()
            try:
                yield
            finally:
                self._loras.end(lora)

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

    async def _whole(self, answer: Answer, send: Any) -> None:
        for _ in range(answer.begin, answer.end):
            await self._next_step()
            answer.generated += 1
        message = {"role": "assistant", "content": answer.text(answer.begin, answer.end)}
        choice = {"index": 0, "message": message, "finish_reason": "length"}
        body = answer.head | {"choices": [choice], "usage": answer.usage}
        await _answer(send, body, answer.headers)

    async def _stream(self, answer: Answer, send: Any) -> None:
        continuation = answer.continuation
        comments = continuation.comments(1, answer.ids, (Text,))
        events = [answer.events(n) for n in range(answer.end)]
        last = answer.last_events()
        content_type = (b"content-type", b"text/event-stream; charset=utf-8")
        headers = [content_type, *continuation.headers, *answer.headers]
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


@dataclass(frozen=True, slots=True)
class _Lora:
    """An adapter in the form of vLLM."""

    name: str
    number: int
    folder: str

    def trained_for(self) -> str:
        config = json.loads((Path(self.folder) / CONFIG_FILE).read_bytes())
        return str(config["trained_for"])


class _Loras:
    """The adapters of the engine."""

    errored = False

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._known: dict[int, str] = {}
        self._running: Counter[int] = Counter()

    async def add_lora(self, lora: _Lora, /) -> bool:
        await asyncio.sleep(LOAD_S)
        trained_for = lora.trained_for()
        if trained_for == REFUSED:
            raise ValueError("the engine refuses it")
        self._known[lora.number] = trained_for
        return True

    async def remove_lora(self, number: int, /) -> bool:
        return self._known.pop(number, None) is not None

    def has_slot(self, lora: _Lora) -> bool:
        return lora.number in self._running or len(self._running) < self._slots

    def begin(self, lora: _Lora) -> str:
        """Returns what the adapter was trained for. Raises OSError if its files are needed and
        gone."""
        known = self._known.get(lora.number)
        if known is None:
            known = self._known[lora.number] = lora.trained_for()
        self._running[lora.number] += 1
        return known

    def end(self, lora: _Lora) -> None:
        self._running[lora.number] -= 1
        self._running += Counter()  # without those that no longer run


async def _body(send: Any, events: bytes) -> None:
    if events:
        await send({"type": "http.response.body", "body": events, "more_body": True})


async def _answer(
    send: Any,
    answer: dict[str, Any],
    headers: Iterable[tuple[bytes, bytes]] = (),
    status: int = 200,
) -> None:
    body = json.dumps(answer).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
