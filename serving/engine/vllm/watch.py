"""Finds out that vLLM's engine hangs, ends it then, and says why it died."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Iterable

import psutil
from vllm.v1.engine.async_llm import AsyncLLM

from serving.engine import start_log
from serving.engine.last_steps import LastSteps
from serving.poison import Reason

log = logging.getLogger(__name__)

HANG_S = 20.0
"""How long a step may take. The longest regular ones, a full batch of prompts and images on slow
GPUs, take a few seconds. Kernels are compiled before the engine is up, or take seconds as well."""
_PERIOD_S = 1.0
_SLICE_S = 1.0

_CUDA_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError")
_OUT_OF_MEMORY = re.compile(r"MemoryError|can't allocate memory|Cannot allocate memory|bad_alloc")
_ENDED = re.compile(r"Worker proc \S+ died unexpectedly")
_SIGNALS_FROM_OUTSIDE = frozenset((-9, -15))


class Watch:
    """Pings the engine, which answers between two steps, for as long as it lives."""

    def __init__(self, engine: AsyncLLM, last_steps: LastSteps, hang_s: float = HANG_S) -> None:
        self._engine = engine
        self._last_steps = last_steps
        self._hang_s = hang_s
        manager = engine.engine_core.resources.engine_manager
        self._processes = list(manager.processes)
        self._hangs = False
        self._log_bytes = start_log.log_bytes()
        """What was logged when the last ping was sent that the engine has answered."""
        self._reason: Reason | None = None

    async def run(self) -> None:
        """Returns when the engine is dead."""
        while not self._engine.errored:
            sent_s, log_bytes = time.monotonic(), start_log.log_bytes()
            if not await self._answers():
                if not self._engine.errored:
                    self._end(sent_s)
                return
            self._last_steps.answered(sent_s)
            self._log_bytes = log_bytes
            await asyncio.sleep(_PERIOD_S)

    @property
    def reason(self) -> Reason | None:
        """Why the engine died; None while it lives."""
        if self._reason is None and (self._hangs or self._engine.errored):
            self._reason, cause = self._find_reason()
            log.error("the engine died (%s)%s", self._reason, cause and f": {cause}")
        return self._reason

    async def _answers(self) -> bool:
        """Pings the engine. Time in which this event loop was blocked does not count, as the answer
        may be there already."""
        ping = asyncio.ensure_future(self._engine.is_sleeping())
        silent_s = 0.0
        try:
            while not ping.done() and silent_s < self._hang_s and not self._engine.errored:
                began_s = time.monotonic()
                await asyncio.wait([ping], timeout=min(_SLICE_S, self._hang_s))
                silent_s += min(time.monotonic() - began_s, _SLICE_S)
            return ping.done() and ping.exception() is None
        finally:
            ping.cancel()

    def _end(self, since_s: float) -> None:
        self._hangs = True
        self._last_steps.hang(since_s)
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                of = psutil.Process(process.pid)
                for one in [*of.children(recursive=True), of]:
                    one.kill()

    def _find_reason(self) -> tuple[Reason, str]:
        if self._hangs:
            return "hang", f"its step did not end within {self._hang_s:g} s"
        text = start_log.own_log(self._log_bytes)
        codes = [process.exitcode for process in self._processes]
        return reason_of(text, codes), start_log.root_cause(text)


def reason_of(text: str, exit_codes: Iterable[int | None]) -> Reason:
    """Returns why an engine died, by what it has logged since it last was well, and how its
    processes ended."""
    if _CUDA_OUT_OF_MEMORY.search(text):
        return "cuda_out_of_memory"
    if _OUT_OF_MEMORY.search(text):
        return "out_of_memory"
    if _ENDED.search(text) or any(code in _SIGNALS_FROM_OUTSIDE for code in exit_codes):
        return "killed"
    return "crash"
