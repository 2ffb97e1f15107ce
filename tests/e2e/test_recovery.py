"""A replica dies under streams: each goes on from the other, as if nothing had happened."""

import asyncio
import json
from functools import partial
from typing import Any

import httpx
import psutil

from tests.e2e.service import MODEL, Service, title, wait_for

COUNTS = {"messages": [{"role": "user", "content": "Count from 1 to 100."}]}
"""Different at each token."""
LASTS = {
    "messages": [{"role": "user", "content": "Repeat the word hello forever."}],
    "max_tokens": 3000,
    "repetition_detection": False,
}
BODIES: list[dict[str, Any]] = [LASTS, LASTS, COUNTS, LASTS, COUNTS, LASTS]
_BEGUN_BYTES = 4000


class Stream:
    """A streamed answer as it comes; read once it is over, for many come at the same time."""

    def __init__(self) -> None:
        self.data = b""
        self.begun = asyncio.Event()

    async def receive(self, http: httpx.AsyncClient, body: dict[str, Any]) -> "Stream":
        options = {"stream": True, "stream_options": {"include_usage": True}}
        request = {"model": MODEL, "temperature": 0, **options, **body}
        pieces: list[bytes] = []
        received_bytes = 0
        async with http.stream("POST", "/v1/chat/completions", json=request) as response:
            async for piece in response.aiter_raw():
                pieces.append(piece)
                received_bytes += len(piece)
                if received_bytes > _BEGUN_BYTES:
                    self.begun.set()
        self.data = b"".join(pieces)
        return self

    def answer(self) -> tuple[str, str | None, Any]:
        """The text, why it finished, and the usage."""
        *events, done, end = self.data.split(b"\n\n")
        assert (done, end) == (b"data: [DONE]", b"")
        text, finish_reason, usage, ids = "", None, None, set()
        for event in (json.loads(event.removeprefix(b"data: ")) for event in events):
            ids.add((event["id"], event["created"]))
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
                finish_reason = choice["finish_reason"] or finish_reason
        assert len(ids) == 1
        return text, finish_reason, usage


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


def replaced(service: Service, before: set[str]) -> bool:
    now = {replica["replica"] for replica in service.replicas()}
    return len(now) == 2 and now != before


def test_kill_9_of_an_engine_under_streams(service: Service) -> None:
    wait_for(lambda: len(service.replicas()) == 2, 180, "both replicas are up")
    before = {replica["replica"] for replica in service.replicas()}
    # Found out now: it takes thousands of reads of /proc, and while the streams come in each of
    # them waits for its turn.
    engines = engine_processes(service)

    async def busiest(http: httpx.AsyncClient) -> psutil.Process:
        replicas = (await http.get("/-/status")).json()["models"][MODEL]["replicas"]
        return engines[max(replicas, key=lambda replica: replica["requests_in_flight"])["address"]]

    async def ask_and_kill() -> tuple[list[Stream], list[Stream]]:
        async with httpx.AsyncClient(base_url=service.url, timeout=240) as http:
            undisturbed = [await Stream().receive(http, body) for body in (LASTS, COUNTS)]
            streams = [Stream() for _ in BODIES]
            answers = [
                asyncio.create_task(stream.receive(http, body))
                for stream, body in zip(streams, BODIES, strict=True)
            ]
            async with asyncio.timeout(60):
                await asyncio.gather(*(stream.begun.wait() for stream in streams))
            (await busiest(http)).kill()
            return undisturbed, await asyncio.gather(*answers)

    (lasts, counts), got = asyncio.run(ask_and_kill())
    for stream, body in zip(got, BODIES, strict=True):
        assert stream.answer() == (lasts if body is LASTS else counts).answer()
    wait_for(partial(replaced, service, before), 180, "the replica is replaced")
    continued = [line for line in service.request_log() if line["continued"]]
    assert continued
    assert all(line["retries"] >= line["continued"] for line in continued)
