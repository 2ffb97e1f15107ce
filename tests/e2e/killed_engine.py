"""Kills the vLLM process of a replica under streams and unstreamed requests, and records what the
clients receive until the replica is replaced.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from tests.e2e.service import MODEL, Service, title
from tests.support.waiting import wait_for

COUNTS = {"messages": [{"role": "user", "content": "Count from 1 to 100."}]}
"""A request whose answer differs at each token, so that a lost or repeated token is noticed."""
LASTS = {
    "messages": [{"role": "user", "content": "Repeat the word hello forever."}],
    "max_tokens": 1000,
    "repetition_detection": False,
}
BODIES: list[dict[str, Any]] = [LASTS, LASTS, COUNTS, LASTS, COUNTS, LASTS]
UNSTREAMED = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Count from 1 to 10."}],
    "temperature": 0,
}
_BEGUN_BYTES = 4000
_BEGUN_S = 180
_UNSTREAMED_CLIENTS = 3
_ENOUGH_ANSWERS = 6
_REPLACED_S = 180


class Stream:
    """A streamed answer that is still arriving, parsed only once it is over, as many arrive at
    once."""

    def __init__(self) -> None:
        self.data = b""
        self.begun = asyncio.Event()

    async def receive(self, http: httpx.AsyncClient, body: dict[str, Any]) -> "Stream":
        options = {"stream": True, "stream_options": {"include_usage": True}}
        request = {"model": MODEL, "temperature": 0, **options, **body}
        pieces: list[bytes] = []
        received_bytes = 0
        try:
            async with http.stream("POST", "/v1/chat/completions", json=request) as response:
                async for piece in response.aiter_raw():
                    pieces.append(piece)
                    received_bytes += len(piece)
                    if received_bytes > _BEGUN_BYTES:
                        self.begun.set()
        finally:
            self.begun.set()
        assert response.status_code == 200, b"".join(pieces)
        self.data = b"".join(pieces)
        return self

    def answer(self) -> tuple[str, str | None, Any]:
        """The text, the finish reason and the usage without what was cached: that depends on the
        replica."""
        *events, done, end = self.data.split(b"\n\n")
        assert (done, end) == (b"data: [DONE]", b"")
        text, finish_reason, usage, ids = "", None, None, set()
        data = (event for event in events if not event.startswith(b":"))  # without comments
        for event in (json.loads(event.removeprefix(b"data: ")) for event in data):
            ids.add((event["id"], event["created"]))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                finish_reason = choice["finish_reason"] or finish_reason
        assert len(ids) == 1
        assert usage is not None
        cached = usage.pop("prompt_tokens_details")["cached_tokens"]
        assert cached <= usage["prompt_tokens"]
        return text, finish_reason, usage


@dataclass
class UnstreamedLoad:
    """Clients that send the same unstreamed request again and again."""

    expected: Any
    """The choices of each answer."""
    answers: list[httpx.Response] = field(default_factory=list)

    def wait_for_more_answers(self) -> None:
        count = len(self.answers) + _ENOUGH_ANSWERS
        wait_for(lambda: len(self.answers) >= count, 60, "requests are answered")


@contextlib.contextmanager
def unstreamed_load(service: Service) -> Iterator[UnstreamedLoad]:
    """Yields the load once it runs; all its answers are complete after the context."""
    first = httpx.post(f"{service.url}/v1/chat/completions", json=UNSTREAMED, timeout=60)
    load = UnstreamedLoad(first.json()["choices"])
    over = threading.Event()

    def client() -> None:
        with httpx.Client(base_url=service.url, timeout=120) as http:
            while not over.is_set():
                load.answers.append(http.post("/v1/chat/completions", json=UNSTREAMED))

    with concurrent.futures.ThreadPoolExecutor(_UNSTREAMED_CLIENTS) as pool:
        clients = [pool.submit(client) for _ in range(_UNSTREAMED_CLIENTS)]
        try:
            load.wait_for_more_answers()
            yield load
        finally:
            over.set()
    for done in clients:
        done.result()


def replica_names(service: Service) -> set[str]:
    return {replica["replica"] for replica in service.replicas()}


def wait_until_replaced(service: Service, before: set[str]) -> None:
    """Returns once there are two replicas and not all of them are from `before`."""
    wait_for(
        lambda: len(now := replica_names(service)) == 2 and now != before,
        _REPLACED_S,
        "the replica is replaced",
    )


@dataclass(frozen=True)
class KilledEngine:
    """The answers that clients received around the kill."""

    killed_s: float
    """Wall-clock time of the kill."""
    before: set[str]
    """The replicas' names before the kill."""
    after: set[str]
    undisturbed: dict[str, Stream]
    """Streams from before the kill, by prompt."""
    streams: list[tuple[str, Stream]]
    """Each stream with its prompt."""
    unstreamed: UnstreamedLoad


def prompt(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def kill_an_engine_under_load(service: Service) -> KilledEngine:
    wait_for(lambda: len(service.replicas()) == 2, _REPLACED_S, "both replicas are up")
    before = replica_names(service)
    # Found out now: it takes thousands of reads of /proc, and while the streams come in each of
    # them waits for its turn.
    engines = engine_processes(service)

    async def busiest(http: httpx.AsyncClient) -> psutil.Process:
        replicas = (await http.get("/-/status")).json()["models"][MODEL]["replicas"]
        return engines[max(replicas, key=lambda replica: replica["requests_in_flight"])["address"]]

    async def undisturbed() -> dict[str, Stream]:
        async with httpx.AsyncClient(base_url=service.url, timeout=240) as http:
            return {prompt(body): await Stream().receive(http, body) for body in (LASTS, COUNTS)}

    async def stream_and_kill() -> tuple[float, list[Stream]]:
        async with httpx.AsyncClient(base_url=service.url, timeout=240) as http:
            streams = [Stream() for _ in BODIES]
            answers = [
                asyncio.create_task(stream.receive(http, body))
                for stream, body in zip(streams, BODIES, strict=True)
            ]
            async with asyncio.timeout(_BEGUN_S):
                await asyncio.gather(*(stream.begun.wait() for stream in streams))
            victim, killed_s = await busiest(http), time.time()
            victim.kill()
            return killed_s, await asyncio.gather(*answers)

    alone = asyncio.run(undisturbed())
    with unstreamed_load(service) as unstreamed:
        killed_s, streams = asyncio.run(stream_and_kill())
        wait_until_replaced(service, before)
        unstreamed.wait_for_more_answers()
    return KilledEngine(
        killed_s,
        before,
        replica_names(service),
        alone,
        [*zip(map(prompt, BODIES), streams, strict=True)],
        unstreamed,
    )


def engine_processes(service: Service) -> dict[str, psutil.Process]:
    """The vLLM process of each replica, by the replica's address."""
    engines = {}
    for address in (replica["address"] for replica in service.replicas()):
        port = int(address.rsplit(":", 1)[1])
        actor = next(p for p in service.processes if port in listening_ports(p))
        engines[address] = next(
            p for p in actor.children(True) if title(p).startswith("VLLM::EngineCore")
        )
    return engines


def listening_ports(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return set()
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}
