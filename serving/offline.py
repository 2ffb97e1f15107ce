"""A model in this process, which answers what a service would: with an engine of its own, but with
neither Ray, nor a router process, nor HTTP."""

import asyncio
import os
import tempfile
from typing import TYPE_CHECKING

import httpx

from serving.catalogue.vllm_flags import vllm_flags
from serving.config import ModelConfig
from serving.engine import torch_compile
from serving.engine.entry_flags import engine_flags, environment
from serving.engine.garbage import only_new_collected
from serving.model_rules import rules_of
from serving.router.http import errors
from serving.router.http.asgi import client_request_id
from serving.router.http.errors import ApiError
from serving.router.proxy.request import decode
from serving.router.responses.responses import PATH as RESPONSES
from serving.router.responses.turn import refuse_stored
from serving.weights_claims import check_claims

if TYPE_CHECKING:
    from serving.engine.vllm.server import VllmServer

URL = "http://engine"
"""The address of a client over an `OfflineModel`, which nothing listens on."""

_SPAWN = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
"""A fork would copy threads' locks of this process, and CUDA does not survive it."""


class EngineDiedError(Exception):
    """The engine ended while it answered."""


class OfflineModel(httpx.AsyncBaseTransport):
    """A transport whose requests are answered by an engine.

    Answers are whole. Requests raise EngineDiedError once the engine is dead.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Sets the engine's environment, so it must come before anything imports vLLM or torch.
        Raises ConfigError."""
        entry = config.entry
        self._entry = entry
        self._rules = rules_of(config)
        self._server: VllmServer
        self._engine: httpx.ASGITransport
        self._sockets = tempfile.TemporaryDirectory(prefix="mistral-serve-")
        """The folder of the sockets between vLLM's processes, which vLLM leaves behind."""
        sockets = {"VLLM_RPC_BASE_PATH": self._sockets.name}
        os.environ.update(_SPAWN | sockets | environment(entry))
        if entry.accelerator == "cpu":
            torch_compile.avoid(vllm_flags(entry).get("enforce-eager") is True)

    async def start(self) -> None:
        """Loads the model. Raises ClaimsError, what vLLM raises, or a StartError with the root
        cause."""
        entry = self._entry
        await asyncio.to_thread(check_claims, entry)
        with only_new_collected():
            from serving.engine.vllm.server import VllmServer

        flags = engine_flags(entry) | {"pipeline-parallel-size": entry.pipeline_parallel_size}
        names = [entry.id, *entry.aliases]
        self._server = VllmServer(flags, names, self._rules, entry.loop_guard)
        self._engine = httpx.ASGITransport(await self._server.start())

    @property
    def max_num_seqs(self) -> int:
        """Number of answers that the engine generates at a time."""
        return self._server.max_num_seqs

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, raw = request.url.path, await request.aread()
        request_id = client_request_id([])
        headers = [(b"x-request-id", request_id), (b"content-type", b"application/json")]
        try:
            fields = decode(raw)
            if path == RESPONSES and isinstance(fields, dict):
                refuse_stored(fields)
        except ApiError as error:
            return httpx.Response(
                error.status, headers=headers, content=error.body(path, request_id.decode())
            )
        response, body = await self._generated(path, raw, request_id)
        if response.status_code >= 400:
            body = errors.of_engine(response.status_code, body).body(path, request_id.decode())
        return httpx.Response(response.status_code, headers=headers, content=body)

    async def _generated(
        self, path: str, asked: bytes, request_id: bytes
    ) -> tuple[httpx.Response, bytes]:
        request = httpx.Request(
            "POST", URL + path, headers=[(b"x-request-id", request_id)], content=asked
        )
        try:
            response = await self._engine.handle_async_request(request)
        except Exception as error:
            if self._server.death is not None:
                raise EngineDiedError(str(error)) from None
            raise
        return response, await response.aread()

    async def aclose(self) -> None:
        """Stops the engine."""
        await self._server.close()
        self._sockets.cleanup()
