"""Everything the project uses of vLLM 0.32. A vLLM upgrade touches this file."""

import asyncio
import functools
import json
import os
import socket
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar, copy_context
from functools import partial
from http import HTTPStatus
from multiprocessing import resource_tracker
from typing import Any, NoReturn, cast

import httpx
import mistral_common.tokens.tokenizers.image as mistral_image
import uvicorn
import vllm
from mistral_common.protocol.instruct.chunk import ImageChunk, ImageURLChunk
from prometheus_client import Counter
from vllm import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.envs import enable_envs_cache
from vllm.exceptions import GenerationError, VLLMClientError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector
from vllm.parser.engine import streaming_parser_engine
from vllm.parser.mistral import MistralParser
from vllm.platforms import current_platform
from vllm.renderers.mistral import MistralRenderer, safe_apply_chat_template
from vllm.renderers.registry import RENDERER_REGISTRY
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.executor.multiproc_executor import MultiprocExecutor

from serving.catalogue import LoopGuard
from serving.engine import prompt_tokens
from serving.engine.loop_guard import STOP_REASON, LoopDetector
from serving.engine.media import HELD_PIXELS, ImageFetcher

VERSION: str = vllm.__version__

_KEEP_ALIVE_S = 24 * 3600
"""The router closes connections that it no longer needs; an engine that closed one first could
do so just as a request arrives on it."""

_KEPT_DROP_INFOS = 8
"""A Mistral model needs one; a parser that made its configuration anew for each request would
need ever more."""

_SHUTDOWN_S = 15
"""After it vLLM kills its processes; its own 5 are too few on a busy machine."""

_DEAD_POLL_S = 1
"""How often a process that has not answered is looked at: one that ended never does."""

_TOOL_CALLS = "[TOOL_CALLS]"

LOOP_STOPS = Counter(
    "mistral_serve_loop_stops",
    "Answers that were stopped because they repeated themselves for ever.",
    ["model_name"],
)
"""In the default registry, which vLLM's own /metrics shows."""

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


def flags(vllm_args: Mapping[str, Any]) -> list[str]:
    """`vllm serve` flags: true becomes `--name`, false `--no-name`, a list `--name` and its items,
    a mapping its JSON.
    """
    argv = []
    for name, value in vllm_args.items():
        if value is True:
            argv.append(f"--{name}")
        elif value is False:
            argv.append(f"--no-{name}")
        elif isinstance(value, list):
            argv += [f"--{name}", *map(str, value)]
        else:
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            argv.append(f"--{name}={text}")
    return argv


def parse(vllm_args: Mapping[str, Any], served_names: list[str]) -> Any:
    """vLLM's own reading of its flags, with our worker on a CPU. Raises ValueError for one that it
    does not take.
    """

    def refuse(message: str) -> NoReturn:
        raise ValueError(f"vLLM {VERSION} does not take these vllm_args: {message}")

    parser = make_arg_parser(FlexibleArgumentParser(allow_abbrev=False))
    parser.error = refuse
    args = parser.parse_args([*flags(vllm_args), "--served-model-name", *served_names])
    validate_parsed_serve_args(args)
    if current_platform.is_cpu() and args.worker_cls == "auto":
        args.worker_cls = "serving.engine.cpu_worker.SeededCpuWorker"
    return args


_images: ContextVar[dict[str, Any]] = ContextVar("images")
"""The images of the request that is being rendered, by URL."""


@MEDIA_CONNECTOR_REGISTRY.register("image-fetcher")
class ImageConnector(MediaConnector):  # type: ignore[misc]
    """Loads the images of requests, instead of vLLM's own connector. The flag
    `allowed-media-domains` is heeded, `allowed-local-media-path` is not.
    """

    def __init__(
        self,
        media_io_kwargs: dict[str, dict[str, Any]] | None = None,
        *,
        allowed_local_media_path: str = "",
        allowed_media_domains: list[str] | None = None,
    ) -> None:
        super().__init__(media_io_kwargs)
        self._fetcher = ImageFetcher(allowed_media_domains or ())

    async def load_from_url_async(
        self, url: str, media_io: Any, *, fetch_timeout: int | None = None
    ) -> Any:
        image = await self._fetcher.load(url, media_io.load_bytes)
        return _images.get({}).setdefault(url, image)

    def load_from_url(self, url: str, media_io: Any, *, fetch_timeout: int | None = None) -> Any:
        return asyncio.run(self.load_from_url_async(url, media_io))


class ImageRenderer(MistralRenderer):  # type: ignore[misc]
    """Gives the tokenizer the images that vLLM has loaded.

    mistral_common would load each URL a second time by itself, with no check and from local files
    too. It also would not turn an image as its EXIF data says, which vLLM does: the prompt then
    holds tokens for another size and the request fails with a 500.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._apply_chat_template_async = self._apply_in_context

    async def render_chat_async(self, *args: Any, **kwargs: Any) -> Any:
        with HELD_PIXELS.request():  # until the images are made into the model's inputs
            return await super().render_chat_async(*args, **kwargs)

    async def render_messages_async(self, messages: Any, params: Any) -> Any:
        token = _images.set({})
        try:
            return await super().render_messages_async(messages, params)
        finally:
            _images.reset(token)

    def render_messages(self, messages: Any, params: Any) -> Any:
        token = _images.set({})
        try:
            return super().render_messages(messages, params)
        finally:
            _images.reset(token)

    async def _apply_in_context(self, tokenizer: Any, messages: Any, **kwargs: Any) -> Any:
        run = partial(copy_context().run, safe_apply_chat_template, tokenizer, messages, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, run)


def _image_from_chunk(chunk: ImageChunk | ImageURLChunk) -> Any:
    """mistral_common's function of this name, which loads nothing."""
    if isinstance(chunk, ImageChunk):
        return chunk.image
    try:
        return _images.get({})[chunk.get_url()].media
    except KeyError:
        raise ValueError("An image of this request has no URL to load it from.") from None


def load_images_safely() -> None:
    """From here on, ImageConnector alone loads the images of requests in this process."""
    os.environ["VLLM_MEDIA_CONNECTOR"] = "image-fetcher"
    RENDERER_REGISTRY.renderers["mistral"] = (__name__, ImageRenderer.__name__)
    mistral_image.image_from_chunk = _image_from_chunk


@functools.cache
def keep_drop_info() -> None:
    """Keeps what vLLM's parsers know of a tokenizer's special tokens, from one request to the next.

    vLLM makes a parser two or three times a request, and each compiles a regular expression for
    each of the tokenizer's 1,000 special tokens, on the event loop. What comes out depends on the
    parser's configuration and the tokenizer alone and is only read.
    """
    build = streaming_parser_engine._build_drop_info
    kept: dict[tuple[int, int], tuple[Any, Any, Any]] = {}

    def kept_drop_info(config: Any, tokenizer: Any) -> Any:
        # By identity, as neither can be compared; both are held, so no id comes again.
        key = id(config), id(tokenizer)
        if key not in kept:
            if len(kept) == _KEPT_DROP_INFOS:
                kept.clear()
            kept[key] = config, tokenizer, build(config, tokenizer)
        return kept[key][-1]

    streaming_parser_engine._build_drop_info = kept_drop_info


@functools.cache
def keep_grammars_to_what_needs_them() -> None:
    """Lets text be generated without a grammar where no tool may be called.

    vLLM's Mistral parser makes a grammar for each request, with a matcher compiled in two processes
    and a mask of the vocabulary for each token. For free text it excludes control tokens, of which
    one alone does harm: a bias keeps the model from beginning a tool call.
    """
    adjust = MistralParser.adjust_request

    def adjust_request(parser: Any, request: Any) -> Any:
        tokenizer = parser.model_tokenizer
        if not getattr(tokenizer, "supports_grammar", False):
            return adjust(parser, request)
        if is_free_text(request):
            calls = tokenizer.get_vocab()[_TOOL_CALLS]
            request.logit_bias = {**(request.logit_bias or {}), str(calls): -100.0}
            return request
        if goes_on(request):
            return request
        return adjust(parser, request)

    MistralParser.adjust_request = adjust_request


def is_unrestricted(request: Any) -> bool:
    """Whether no form is asked of a chat completion's text."""
    return (
        isinstance(request, ChatCompletionRequest)
        and request.structured_outputs is None
        and (request.response_format is None or request.response_format.type == "text")
    )


def is_free_text(request: Any) -> bool:
    """Whether nothing restricts a chat completion's answer, and it may call no tool."""
    return is_unrestricted(request) and (not request.tools or request.tool_choice == "none")


def goes_on(request: Any) -> bool:
    """Whether a chat completion goes on with an answer that has begun as text and may call tools.
    The grammar for that wants some text or a call: it would not let the answer end where it is."""
    return (
        is_unrestricted(request)
        and request.continue_final_message
        and request.tool_choice in (None, "auto")
    )


def guard_detokenizers(guard: LoopGuard) -> None:
    """Lets every answer of this process end as at a stop string when it is a loop.

    vLLM's own `repetition_detection` has one count for patterns of all lengths, and would cut good
    tables and matrices or let loops go on. Not guarded is a request with `repetition_detection` of
    its own (with a `max_pattern_size` of 0: with none at all), and one with `ignore_eos`, which
    wants its length.
    """
    make = IncrementalDetokenizer.from_new_request

    def make_guarded(tokenizer: Any, request: Any) -> Any:
        detokenizer, params = make(tokenizer, request), request.sampling_params
        if tokenizer is None or params.ignore_eos or params.repetition_detection is not None:
            return detokenizer
        detector = LoopDetector(guard, lambda token_id: tokenizer.decode([token_id]))
        unguarded = detokenizer.update

        def update(new_token_ids: Sequence[int], stop_terminated: bool) -> str | None:
            stop_string: str | None = unguarded(new_token_ids, stop_terminated)
            loops = detector.add(new_token_ids) and not stop_terminated
            if loops and detokenizer.num_output_tokens() >= params.min_tokens:
                return stop_string or STOP_REASON
            return stop_string

        detokenizer.update = update
        return detokenizer

    IncrementalDetokenizer.from_new_request = staticmethod(make_guarded)


class ConstraintError(GenerationError, VLLMClientError):  # type: ignore[misc]  # vLLM has no types
    """The answer cannot take the form that the request asks for: a client's error, 400.

    Of two of vLLM's classes, for its endpoints let no other than a GenerationError end a stream
    with an error event, and answer with 400 to no other than a client's error.
    """

    def __init__(self) -> None:
        super().__init__(
            "The model's answer cannot be held to the form that this request asks for: its schema "
            "or grammar is too large or contradicts itself. Send a smaller or simpler one."
        )
        self.status_code = HTTPStatus.BAD_REQUEST


class Llm(AsyncLLM):  # type: ignore[misc]  # vLLM has no types
    """vLLM's engine client, which every endpoint of its application generates with."""

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """As vLLM's. An answer stopped as a loop ends with the finish reason "length": OpenAI's for
        an answer that is cut off, where vLLM has "repetition" or, from our guard, "stop". Raises
        ConstraintError for an answer whose grammar fails, where vLLM has an error of the server.
        """
        noted = False
        prompt_tokens.note_prompt()
        async with aclosing(super().generate(*args, **kwargs)) as outputs:
            async for output in outputs:
                if not noted:
                    tokens = len(output.prompt_token_ids or ())
                    prompt_tokens.note(tokens, output.num_cached_tokens or 0)
                    noted = True
                for choice in output.outputs:
                    if choice.finish_reason == "error" and is_constrained(*args, **kwargs):
                        raise ConstraintError
                    if choice.stop_reason == STOP_REASON:
                        choice.finish_reason = "length"
                        LOOP_STOPS.labels(self.model_config.served_model_name).inc()
                yield output

    async def check_health(self) -> None:
        """As vLLM's, and not answered while its process hangs: that is asked too, which answers
        between two steps.
        """
        answer = asyncio.ensure_future(self.is_sleeping())
        try:
            while not answer.done():
                await super().check_health()
                await asyncio.wait([answer], timeout=_DEAD_POLL_S)
            await super().check_health()
        finally:
            answer.cancel()


def is_constrained(prompt: Any, sampling_params: Any, *_: Any, **__: Any) -> bool:
    """Whether a schema or a grammar restricts the answer; by `AsyncLLM.generate`'s arguments."""
    return sampling_params.structured_outputs is not None


class VllmServer:
    """An AsyncLLM in this process and vLLM's own OpenAI application over it."""

    def __init__(
        self,
        vllm_args: Mapping[str, Any],
        served_names: list[str],
        loop_guard: LoopGuard | None = None,
    ) -> None:
        self._args = parse(vllm_args, served_names)
        load_images_safely()
        self._loop_guard = loop_guard
        self._engine: AsyncLLM
        self._server: uvicorn.Server
        self._serving: asyncio.Task[None]

    async def start(self) -> ASGIApp:
        """Loads the model. Returns vLLM's application; raises what vLLM raises."""
        keep_drop_info()
        keep_grammars_to_what_needs_them()
        if self._loop_guard is not None:
            guard_detokenizers(self._loop_guard)
        engine_args = AsyncEngineArgs.from_cli_args(self._args)
        config = await asyncio.to_thread(engine_args.create_engine_config)
        self._engine = Llm.from_vllm_config(
            vllm_config=config,
            enable_log_requests=engine_args.enable_log_requests,
            disable_log_stats=engine_args.disable_log_stats,
        )
        LOOP_STOPS.labels(self._engine.model_config.served_model_name)  # 0 before the first
        await self._engine.reset_mm_cache()
        tasks = await self._engine.get_supported_tasks()
        app = build_app(self._args, tasks, self._engine.model_config)
        await init_app_state(self._engine, app.state, self._args, tasks)
        # vLLM's error handler asks the server to exit when the engine is dead.
        app.state.server = types.SimpleNamespace()
        enable_envs_cache()
        await self._warm_up(app)
        return cast(ASGIApp, app)

    async def _warm_up(self, app: Any) -> None:
        """One request, whose answer does not matter. Where tools are parsed the first request
        builds the tokenizer's tables for grammars: seconds of this event loop, and again of the
        engine's process.
        """
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            await client.post("/v1/chat/completions", json=body)

    async def listen(self, app: ASGIApp, sock: socket.socket) -> None:
        """Serves `app` (vLLM's, wrapped or not) on a bound socket until `close`."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="httptools",
                loop="uvloop",
                lifespan="on",
                ws="none",
                access_log=False,
                log_config=None,  # see serving/serve_log.py
                log_level="warning",
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
        )
        self._serving = asyncio.create_task(self._server.serve(sockets=[sock]))
        while not self._server.started:
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
    def dead(self) -> bool:
        """vLLM's engine process ended or failed for good."""
        return bool(self._engine.errored)

    async def check_health(self) -> None:
        """Returns when vLLM's engine process answers; raises what vLLM raises if it is dead."""
        await self._engine.check_health()

    async def close(self) -> None:
        """Closes the port and ends vLLM's processes."""
        self._server.should_exit = True
        self._server.force_exit = True
        await asyncio.wait([self._serving], timeout=5)
        await asyncio.to_thread(self._engine.shutdown, _SHUTDOWN_S)
        await asyncio.to_thread(remove_shared_memory)


def remove_shared_memory() -> None:
    """Removes what processes of vLLM that were killed have left in /dev/shm. Python's tracker of
    such things would do so a little after this process has ended, but Ray kills it then.
    """
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def run_pipeline_stage(vllm_args: Mapping[str, Any]) -> None:
    """Runs the workers of a pipeline stage on a node that is not the replica's first, until they
    end. `vllm_args` are the replica's, with this stage's `node-rank`.
    """
    args = parse(vllm_args, ["stage"])
    config = AsyncEngineArgs.from_cli_args(args).create_engine_config(headless=True)
    executor = MultiprocExecutor(config, monitor_workers=False)
    executor.start_worker_monitor(inline=True)
