"""The front end over an engine in this process, and the runner of pipeline stages."""

import asyncio
import contextlib
import importlib.util
import socket
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import resource_tracker
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp
from vllm import AsyncEngineArgs, envs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from serving.adapters.store import AdapterStore
from serving.catalogue import LoopGuard
from serving.engine.adapters import Adapters
from serving.engine.start_log import root_cause_raised
from serving.engine.vllm.arguments import parse
from serving.engine.vllm.front_end import FrontEnd
from serving.engine.vllm.images import load_images_safely
from serving.engine.vllm.resumed_requests import advances_grammars, resumes_exactly
from serving.engine.vllm.scheduler import use_engine_scheduler
from serving.engine.vllm.watch import Watch
from serving.mistral import ModelRules
from serving.poison import Reason

_KEEP_ALIVE_S = 24 * 3600
"""Keep-alive timeout. The router closes connections that it no longer needs; an engine that closed
one first could do so just as a request arrives on it."""

_SPAWNED = "serving.engine.vllm.spawned"

_SHUTDOWN_S = 15
"""Time after which vLLM kills its processes; its default of 5 s is too short on a busy machine."""


class VllmServer:
    """An AsyncLLM in this process, with our front end over it."""

    def __init__(
        self,
        vllm_args: Mapping[str, Any],
        served_names: list[str],
        rules: ModelRules,
        loop_guard: LoopGuard | None = None,
        adapter_store: AdapterStore | None = None,
        host_cache_gib: float = 0.0,
    ) -> None:
        """`adapter_store` has the files of LoRA adapters, for which vLLM must be started with room;
        `host_cache_gib` is that of loaded ones. Without it the engine takes none."""
        self._adapter_store = adapter_store
        self._host_cache_gib = host_cache_gib
        self._args = parse(vllm_args, served_names)
        load_images_safely()
        self._rules = rules
        self._loop_guard = loop_guard
        self._engine: AsyncLLM
        self._app: FrontEnd
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None]
        self._watch: Watch
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> ASGIApp:
        """Loads the model and returns the application; raises what vLLM raises, or a StartError
        with the root cause."""
        engine_args = AsyncEngineArgs.from_cli_args(self._args)
        config = await asyncio.to_thread(engine_args.create_engine_config)
        use_engine_scheduler(config, bool(self._rules.public_system_prompts))
        spawned = _SPAWNED if current_platform.is_cpu() else None
        with root_cause_raised(), spawned_main(spawned):
            self._engine = AsyncLLM.from_vllm_config(
                vllm_config=config,
                enable_log_requests=engine_args.enable_log_requests,
                disable_log_stats=engine_args.disable_log_stats,
            )
        # The front end checks grammars: see serving.engine.vllm.constraints.
        self._engine.input_processor.structured_outputs_config = None
        await self._engine.reset_mm_cache()
        names = self._args.served_model_name
        adapters = None
        if self._adapter_store is not None:
            adapters = Adapters(
                self._engine, LoRARequest, self._adapter_store, self._host_cache_gib, names[0]
            )
        self._app = FrontEnd(
            self._engine,
            names,
            self._rules,
            self._loop_guard,
            resumes_exactly=resumes_exactly(config),
            advances_grammars=advances_grammars(config),
            adapters=adapters,
        )
        envs.enable_envs_cache()
        await self._warm_up(self._app)
        freeze_gc_heap()
        self._watch = Watch(self._engine, self._app.last_steps)
        self._tasks.append(asyncio.create_task(self._watch.run()))
        if not engine_args.disable_log_stats:
            logging = log_statistics(self._engine, envs.VLLM_LOG_STATS_INTERVAL)
            self._tasks.append(asyncio.create_task(logging))
        return self._app

    async def _warm_up(self, app: Any) -> None:
        """Sends one request with a grammar: the first builds the tokenizer's tables for grammars,
        which blocks this event loop for seconds, and the engine's process as well."""
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        body = {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "response_format": {"type": "json_object"},
        }
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            await client.post("/v1/chat/completions", json=body)

    async def listen(self, app: ASGIApp, sock: socket.socket) -> None:
        """Serves `app` on a bound socket until `close`."""
        server = self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="httptools",
                loop="uvloop",
                lifespan="off",
                ws="none",
                access_log=False,
                proxy_headers=False,
                log_config=None,  # see serving/serve_log.py
                log_level="warning",
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        self._serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("the engine's HTTP server ended while it was starting")
            await asyncio.sleep(0.01)

    @property
    def max_model_len(self) -> int:
        return int(self._engine.model_config.max_model_len)

    @property
    def kv_cache_tokens(self) -> int:
        return int(self._engine.vllm_config.cache_config.kv_cache_size_tokens)

    @property
    def max_num_seqs(self) -> int:
        return int(self._engine.vllm_config.scheduler_config.max_num_seqs)

    @property
    def unclaimed_usage(self) -> int:
        """The number of ended requests whose counts no router has yet."""
        return self._app.usage.unclaimed

    @property
    def death(self) -> Reason | None:
        """Why vLLM's engine ended, hangs or failed for good; None while it lives."""
        return self._watch.reason

    async def close(self) -> None:
        """Closes the port, if it listens on one, and stops vLLM's processes."""
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            await asyncio.wait([self._serving], timeout=5)
        await self._app.close()
        await asyncio.to_thread(self._engine.shutdown, _SHUTDOWN_S)
        if self._adapter_store is not None:
            self._adapter_store.close()
        await asyncio.to_thread(remove_shared_memory)


@contextlib.contextmanager
def spawned_main(name: str | None) -> Iterator[None]:
    """Has Python's `multiprocessing` import the module `name` as the main module of what is spawned
    while the context is open, in place of this process's own; without a name, nothing."""
    main = sys.modules["__main__"]
    own = main.__spec__
    main.__spec__ = importlib.util.find_spec(name) if name else own
    try:
        yield
    finally:
        main.__spec__ = own


async def log_statistics(engine: AsyncLLM, interval_s: float) -> None:
    """Has vLLM log its throughput, running and waiting requests and use of the KV cache
    periodically, as its own server does."""
    while True:
        await asyncio.sleep(interval_s)
        await engine.do_log_stats()


def remove_shared_memory() -> None:
    """Removes what killed processes of vLLM have left in /dev/shm. Python's resource tracker would
    do so shortly after this process has ended, but Ray kills it then."""
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def run_pipeline_stage(vllm_args: Mapping[str, Any]) -> None:
    """Runs the workers of a pipeline stage on a node that is not the replica's first, until they
    end. `vllm_args` are the replica's, with this stage's `node-rank`."""
    args = parse(vllm_args, ["stage"])
    config = AsyncEngineArgs.from_cli_args(args).create_engine_config(headless=True)
    with root_cause_raised():
        executor = MultiprocExecutor(config, monitor_workers=False)
    executor.start_worker_monitor(inline=True)
