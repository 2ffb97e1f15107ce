"""Kills the vLLM process of a replica under all kinds of streams at once, until each kind was cut
twice."""

import asyncio
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.continued_engine import (
    ALTERNATIVES,
    ASK,
    CHAT,
    COMPLETIONS,
    RESPONSES,
    TOOLS,
    cases,
    largest,
)
from tests.e2e.killed_engine import engine_processes, replica_names, wait_until_replaced
from tests.e2e.service import Service
from tests.support.waiting import wait_for

CUTS = 2
"""How often the engine of each kind of stream is killed."""
_MOST_KILLS = 6
_CLIENTS = 3
"""For each kind."""
_TOKENS = 60
_PATIENCE_S = 60
"""How long to wait for a moment at which the kinds that are left are all amid a stream."""
_LOOK_EVERY_S = 0.005
_ENDED_S = 120


def kinds() -> dict[str, tuple[str, dict[str, Any]]]:
    """Returns the path and the fields of each kind of stream."""
    parallel = {"messages": ASK, "tools": TOOLS, "tool_choice": "required", "temperature": 0}
    return cases(None) | {"parallel calls": (CHAT, {**parallel, "parallel_tool_calls": True})}


@dataclass(eq=False)
class Stream:
    """A streamed answer as far as it has arrived."""

    kind: str
    path: str
    request_id: str
    replica: str = ""
    pieces: list[bytes] = field(default_factory=list)
    events: int = 0
    ended: bool = False

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    def is_amid(self, replica: str) -> bool:
        """Whether this replica has begun the stream, and not only its first event."""
        return self.replica == replica and self.events > 1 and not self.ended


@dataclass
class KilledKinds:
    """The streams around the kills."""

    undisturbed: dict[str, Stream]
    streams: list[Stream]
    kills: int
    cuts: Counter[str]
    """How often another engine continued streams of a kind, each kill counted once."""


class _Clients:
    def __init__(self, service: Service, http: httpx.AsyncClient) -> None:
        self.streams: list[Stream] = []
        self.running: set[Stream] = set()
        self.may_ask, self.over = asyncio.Event(), False
        self._model = service.model
        self._http = http
        self._numbers = itertools.count()

    async def ask(self, kind: str, path: str, fields: Mapping[str, Any]) -> Stream:
        limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
        usage = {"stream_options": {"include_usage": True}} if path in (CHAT, COMPLETIONS) else {}
        body = {"model": self._model, "stream": True, limit: _TOKENS, **usage, **fields}
        stream = Stream(kind, path, f"id{next(self._numbers):05}")
        self.running.add(stream)
        headers = {"x-request-id": stream.request_id}
        async with self._http.stream("POST", path, json=body, headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            stream.replica = response.headers["x-replica"]
            async for piece in response.aiter_raw():
                stream.pieces.append(piece)
                stream.events += piece.count(b"\n\n")
        stream.ended = True
        self.running.remove(stream)
        return stream

    async def again_and_again(self, kind: str, path: str, fields: Mapping[str, Any]) -> None:
        while True:
            await self.may_ask.wait()
            if self.over:
                return
            self.streams.append(await self.ask(kind, path, fields))

    async def moment(self, left: set[str]) -> str:
        """Returns the replica that is amid a stream of each of these kinds, or, after a while, of
        most of them."""
        best: tuple[int, str] = (0, "")
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _PATIENCE_S
        while best[0] < len(left):
            for replica in {stream.replica for stream in self.running} - {""}:
                amid = {one.kind for one in self.running if one.is_amid(replica)}
                count = len(amid & left)
                if count == len(left) or (loop.time() > until_s and count > 0.8 * best[0]):
                    return replica
                best = max(best, (count, replica))
            await asyncio.sleep(_LOOK_EVERY_S)
        return best[1]


def kill_under_all_kinds(service: Service) -> KilledKinds:
    return asyncio.run(_kill_under_all_kinds(service))


async def _kill_under_all_kinds(service: Service) -> KilledKinds:
    asked = kinds()
    cuts: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=300, limits=limits) as http:
        clients = _Clients(service, http)
        undisturbed = {kind: await clients.ask(kind, *of) for kind, of in asked.items()}
        tasks = [
            asyncio.create_task(clients.again_and_again(kind, *of))
            for kind, of in asked.items()
            for _ in range(_CLIENTS)
        ]
        kills = 0
        while (left := {kind for kind in asked if cuts[kind] < CUTS}) and kills < _MOST_KILLS:
            before = await asyncio.to_thread(replica_names, service)
            engines = await asyncio.to_thread(engine_processes, service)
            addresses = {one["replica"]: one["address"] for one in service.replicas()}
            first = len(clients.streams)
            clients.may_ask.set()
            victim = await clients.moment(left)
            engines[addresses[victim]].kill()
            kills += 1
            clients.may_ask.clear()
            await asyncio.to_thread(wait_until_replaced, service, before)
            await asyncio.to_thread(
                wait_for, lambda: not clients.running, _ENDED_S, "all streams have ended"
            )
            cuts.update(continued_kinds(service, clients.streams[first:]))
        clients.over = True
        clients.may_ask.set()
        await asyncio.gather(*tasks)
    return KilledKinds(undisturbed, clients.streams, kills, cuts)


def continued_kinds(service: Service, streams: list[Stream]) -> set[str]:
    """Returns the kinds of those streams that another engine has continued."""
    kind_of = {stream.request_id: stream.kind for stream in streams}
    continued = {line["request_id"] for line in service.request_log() if line["continued"]}
    return {kind for request_id, kind in kind_of.items() if request_id in continued}


_IDS = ("id", "call_id", "item_id", "response_id", "created", "created_at", "completed_at")
_CACHED = ("cached_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_TEXTS = ("content", "text", "reasoning", "arguments", "delta", "thinking", "partial_json")


def said(stream: Stream) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Returns what a stream's events say of each thing, however many tokens an event has, and its
    log-probabilities. Ids and times, which differ between requests, are numbered as they come, so
    that one that changes within a stream is seen."""
    known: dict[Any, str] = {}
    found: dict[str, list[Any]] = defaultdict(list)
    floats: dict[str, list[float]] = defaultdict(list)

    def note(value: Any, path: str) -> None:
        name = path.rpartition(".")[2]
        if isinstance(value, dict) and path.endswith(ALTERNATIVES):
            floats[path].append(largest(value))
        elif isinstance(value, dict):
            path += f"/{value.get('type', '')}{value.get('index', value.get('output_index', ''))}"
            if "cache_read_input_tokens" in value:
                value = value | {
                    "input_tokens": value["input_tokens"] + (value["cache_read_input_tokens"] or 0)
                }
            for key, one in value.items():
                note(one, f"{path}.{key}")
        elif isinstance(value, list):
            for one in value:
                note(one, path)
        elif name in _IDS and value is not None:
            found[path].append(known.setdefault(value, f"{name} {len(known)}"))
        elif isinstance(value, float):
            floats[path].append(value)
        elif value not in (None, "") and name not in (*_CACHED, "sequence_number"):
            found[path].append(value)

    numbers = []
    for event in stream.raw.decode().split("\n\n")[:-1]:
        if event.startswith(":"):
            continue  # a comment while the stream waited
        name, _, data = event.rpartition("data: ")
        value = data if data == "[DONE]" else json.loads(data)
        if isinstance(value, dict) and "sequence_number" in value:
            numbers.append(value["sequence_number"])
        note(value, name.strip())
    assert numbers == [*range(len(numbers))], f"{stream.kind}: {numbers}"
    joined = {
        path: "".join(all_of)
        if path.rpartition(".")[2] in _TEXTS and all(isinstance(one, str) for one in all_of)
        else all_of
        if "logprobs" in path
        else [*dict.fromkeys(all_of)]
        for path, all_of in found.items()
    }
    return joined, dict(floats)
