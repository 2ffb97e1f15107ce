"""The LoRA adapters of an engine: loaded before a request needs them, and kept while one does."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import psutil
from prometheus_client import Counter, Gauge, Summary

from serving.adapters.adapter import Version
from serving.adapters.files import AdapterError
from serving.adapters.store import AdapterStore
from serving.catalogue.memory import GIB
from serving.engine_protocol import EngineAdapters

log = logging.getLogger(__name__)

RESIDENT = Gauge(
    "mistral_serve_resident_adapters", "Adapters that the engine has loaded.", ["model_name"]
)
LOADS = Summary(
    "mistral_serve_adapter_load_seconds", "Loads of adapters, and their time.", ["model_name"]
)
FAILURES = Counter(
    "mistral_serve_adapter_load_failures", "Adapters that did not load.", ["model_name"]
)

_FIRST_LOAD_MS = 500.0
"""The time of a load before one was measured: that of 200 MB from a disk of a GPU node."""
_RECENT = 0.25
"""The weight of the last load in the mean."""


class NoAdapterError(Exception):
    """The engine does not have the adapter that a request needs."""


R = TypeVar("R")
"""An adapter in the engine's own form, which is made of its name, number and folder."""
R_contra = TypeVar("R_contra", contravariant=True)


class Loader(Protocol[R_contra]):
    """vLLM's engine as adapters need it."""

    @property
    def errored(self) -> bool: ...
    async def add_lora(self, lora_request: R_contra, /) -> bool: ...
    async def remove_lora(self, lora_id: int, /) -> bool: ...


@dataclass(slots=True)
class _Loaded(Generic[R]):
    request: R
    number: int
    bytes: int
    running: int = 0


class Adapters(Generic[R]):
    """The adapters by their digests, least recently used first.

    vLLM's engine dies of an adapter that it cannot load for a request, so that a request is only
    given to it once `load` has succeeded, and none is removed while a request runs on it. What is
    over `host_cache_gib` is removed here, as vLLM itself would not tell.
    """

    def __init__(
        self,
        engine: Loader[R],
        in_its_form: Callable[[str, int, str], R],
        store: AdapterStore,
        host_cache_gib: float,
        model_name: str,
    ) -> None:
        self._engine = engine
        self._in_its_form = in_its_form
        self._store = store
        self._most_bytes = host_cache_gib * GIB
        self._loaded: dict[str, _Loaded[R]] = {}
        self._ids = itertools.count(1)
        self._one_at_a_time = asyncio.Lock()
        self._load_ms = _FIRST_LOAD_MS
        self._resident = RESIDENT.labels(model_name)
        self._loads = LOADS.labels(model_name)
        self._failures = FAILURES.labels(model_name)

    def report(self) -> EngineAdapters:
        return EngineAdapters(list(self._loaded), self._load_ms)

    @contextlib.contextmanager
    def running(self, digest: str) -> Iterator[R]:
        """Keeps an adapter for a request, and returns it in the engine's form. Raises
        NoAdapterError."""
        loaded = self._loaded.pop(digest, None)
        if loaded is None:
            raise NoAdapterError(digest)
        self._loaded[digest] = loaded  # as the one that was used last
        loaded.running += 1
        try:
            yield loaded.request
        finally:
            loaded.running -= 1

    async def load(self, version: Version) -> None:
        """Loads a version, unless it is here. Raises AdapterError, and what the engine raises when
        it is dead."""
        async with self._one_at_a_time:
            if version.digest in self._loaded:
                return
            began_s = time.monotonic()
            try:
                await self._load(version)
            except AdapterError as error:
                self._failures.inc()
                log.error("the adapter at %s does not load: %s", version.source, error)
                raise
            took_s = time.monotonic() - began_s
            self._loads.observe(took_s)
            self._load_ms += _RECENT * (took_s * 1000 - self._load_ms)
            log.info("the adapter at %s was loaded in %.2f s", version.source, took_s)

    async def _load(self, version: Version) -> None:
        await self._make_room(version)
        folder = await asyncio.to_thread(self._store.keep, version)
        number = next(self._ids)
        request = self._in_its_form(version.digest, number, str(folder))
        try:
            added = await self._engine.add_lora(request)
        except Exception as error:
            if self._engine.errored:
                raise
            self._store.drop(version.digest)
            raise AdapterError(f"the engine does not take it: {_first_line(error)}") from error
        if not added:
            self._store.drop(version.digest)
            raise AdapterError("the engine does not take it")
        self._loaded[version.digest] = _Loaded(request, number, version.loaded_bytes)
        self._resident.set(len(self._loaded))

    async def _make_room(self, version: Version) -> None:
        """Removes adapters that no request runs on until another one fits."""
        idle = [digest for digest, loaded in self._loaded.items() if not loaded.running]
        for digest in idle:
            if self._bytes() + version.loaded_bytes <= self._most_bytes:
                break
            await self._remove(digest)
        if self._bytes() + version.loaded_bytes > self._most_bytes:
            raise AdapterError(
                "too little memory: requests run on all adapters that lora.host_cache_gib holds"
            )
        if psutil.virtual_memory().available < version.loaded_bytes:
            raise AdapterError("too little memory is free on the engine's machine")

    def _bytes(self) -> int:
        return sum(loaded.bytes for loaded in self._loaded.values())

    async def _remove(self, digest: str) -> None:
        if self._loaded[digest].running:  # since the choice
            return
        loaded = self._loaded.pop(digest)
        self._resident.set(len(self._loaded))
        await self._engine.remove_lora(loaded.number)
        await asyncio.to_thread(self._store.drop, digest)


def _first_line(error: Exception) -> str:
    """Returns what vLLM says first of an error, which comes with a trace of its own process."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
