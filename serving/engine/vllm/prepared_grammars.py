"""Has grammars compiled before the next request asks for them."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from threading import Lock

from vllm.v1.request import Request
from vllm.v1.structured_output.backend_types import StructuredOutputGrammar

_KEPT_S = 1.0
"""Bounds the memory of all grammars that are kept by the CPU time that it took to compile them, of
which a millisecond leaves about 0.2 MB. The grammar of two to twenty tools takes 1 to 4 ms."""

Key = tuple[object, ...]


class PreparedGrammars(ThreadPoolExecutor):
    """Takes the place of the executor in which vLLM's StructuredOutputManager compiles grammars.

    Whenever a request is given its grammar, `prepare` has the same compiled once more and keeps it
    for the next one: an agent sends the same tools with each request. A request whose grammar is
    ready is part of the next step; any other waits for its grammar, and an empty step at least.

    Each request has a grammar of its own, which follows its answer. The copies that llguidance
    makes share a lexer: an answer that brought it to its limits would end the others. Requests with
    different cache salts share not even the time that a grammar takes.
    """

    def __init__(self, threads: int, kept_s: float = _KEPT_S) -> None:
        super().__init__(threads, thread_name_prefix="grammars")
        self._kept_s = kept_s
        self._lock = Lock()
        self._kept: dict[Key, tuple[Future[StructuredOutputGrammar], float]] = {}
        """Grammars that no request has yet, with the CPU seconds that the one before took; the one
        that was asked for last is the last."""
        self._given: SimpleQueue[tuple[Key, _Compilation, Future[StructuredOutputGrammar]]]
        self._given = SimpleQueue()

    def submit(  # type: ignore[override]  # vLLM submits nothing else
        self, create: Callable[[Request], StructuredOutputGrammar], request: Request, /
    ) -> Future[StructuredOutputGrammar]:
        """Returns the grammar that `create` makes for the request."""
        key = request.cache_salt, *request.structured_output_request.structured_output_key
        compilation = _Compilation(create, request)
        with self._lock:
            kept = self._kept.pop(key, None)
        if kept is None:
            grammar = super().submit(compilation)
        else:
            grammar, compilation.took_s = kept
        self._given.put((key, compilation, grammar))
        return grammar

    def prepare(self) -> None:
        """Begins to compile the grammars that were given to requests once more. To be called when
        a step has ended, so that nothing of this is in the way of a request's first token."""
        while not self._given.empty():
            key, compilation, grammar = self._given.get()
            grammar.add_done_callback(partial(self._keep_another, key, compilation))

    def _keep_another(
        self, key: Key, compilation: "_Compilation", given: Future[StructuredOutputGrammar]
    ) -> None:
        if given.cancelled() or given.exception() is not None:
            return
        with self._lock, contextlib.suppress(RuntimeError):  # after the shutdown
            if key not in self._kept:
                self._kept[key] = super().submit(compilation), compilation.took_s
            while sum(took_s for _, took_s in self._kept.values()) > self._kept_s:
                del self._kept[next(iter(self._kept))]


class _Compilation:
    """Compiles a request's grammar and notes the CPU time that it took."""

    def __init__(
        self, create: Callable[[Request], StructuredOutputGrammar], request: Request
    ) -> None:
        self._create = create
        self._request = request
        self.took_s = 0.0

    def __call__(self) -> StructuredOutputGrammar:
        began_s = time.thread_time()
        try:
            return self._create(self._request)
        finally:
            self.took_s = time.thread_time() - began_s
